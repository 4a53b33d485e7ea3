#include "coordinator/text/tokenizer/vocabulary.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/model/limits.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kMaxTokenBytes = 1 << 16;

}  // namespace

absl::StatusOr<Vocabulary> Vocabulary::Create(const v1::TokenizerDescription& description) {
  Vocabulary vocabulary;
  TESSERA_RETURN_IF_ERROR(vocabulary.ReadTokens(description));
  TESSERA_RETURN_IF_ERROR(vocabulary.ReadSpecialIds(description));
  return vocabulary;
}

absl::Status Vocabulary::ReadTokens(const v1::TokenizerDescription& description) {
  const int count = description.tokens_size();
  if (count == 0) return wire::FieldError("tokenizer.tokens", "is empty");
  if (count > model::kMaxVocab) {
    return wire::FieldError("tokenizer.tokens",
                            absl::StrCat("has ", count, " entries; expected at most ", model::kMaxVocab));
  }
  if (description.types_size() != count) {
    return wire::FieldError("tokenizer.types",
                            absl::StrCat("has ", description.types_size(),
                                         " entries; expected one for each of ", count, " tokens"));
  }
  tokens_.assign(description.tokens().begin(), description.tokens().end());
  types_.reserve(count);
  ids_.reserve(count);
  for (int id = 0; id < count; ++id) {
    if (!v1::TokenType_IsValid(description.types(id))) {
      return wire::FieldError(absl::StrCat("tokenizer.types[", id, "]"),
                              absl::StrCat("is ", static_cast<int>(description.types(id)),
                                           "; expected a known token type"));
    }
    types_.push_back(description.types(id));
    const std::string& token = tokens_[id];
    if (token.size() > kMaxTokenBytes) {
      return wire::FieldError(
          absl::StrCat("tokenizer.tokens[", id, "]"),
          absl::StrCat("is ", token.size(), " bytes long; expected at most ", kMaxTokenBytes));
    }
    // Some files hold empty placeholders. They match nothing and stand for nothing.
    if (token.empty()) continue;
    // Where files hold a token twice, text becomes the last of them, as in llama.cpp.
    ids_[token] = id;
  }
  stops_.assign(count, false);
  return absl::OkStatus();
}

absl::Status Vocabulary::ReadSpecialIds(const v1::TokenizerDescription& description) {
  const auto check = [&](absl::string_view name, int32_t id) {
    if (Contains(id)) return absl::OkStatus();
    return wire::FieldError(absl::StrCat("tokenizer.", name),
                            absl::StrCat("is ", id, "; expected 0 .. ", size() - 1));
  };
  if (description.has_bos_id()) TESSERA_RETURN_IF_ERROR(check("bos_id", description.bos_id()));
  if (description.has_eos_id()) TESSERA_RETURN_IF_ERROR(check("eos_id", description.eos_id()));
  if (description.has_unk_id()) TESSERA_RETURN_IF_ERROR(check("unk_id", description.unk_id()));
  if (description.has_pad_id()) TESSERA_RETURN_IF_ERROR(check("pad_id", description.pad_id()));
  if (description.add_bos() && !description.has_bos_id()) {
    return wire::FieldError("tokenizer.bos_id", "is absent although add_bos is set");
  }
  if (description.add_eos() && !description.has_eos_id()) {
    return wire::FieldError("tokenizer.eos_id", "is absent although add_eos is set");
  }
  for (int i = 0; i < description.stop_ids_size(); ++i) {
    TESSERA_RETURN_IF_ERROR(check(absl::StrCat("stop_ids[", i, "]"), description.stop_ids(i)));
    stops_[description.stop_ids(i)] = true;
  }
  if (description.has_eos_id()) stops_[description.eos_id()] = true;
  if (description.add_bos()) leading_bos_ = description.bos_id();
  if (description.add_eos()) trailing_eos_ = description.eos_id();
  if (description.has_unk_id()) unk_id_ = description.unk_id();
  return absl::OkStatus();
}

bool Vocabulary::IsControl(int32_t id) const {
  return Contains(id) && (types_[id] == v1::TOKEN_TYPE_CONTROL || types_[id] == v1::TOKEN_TYPE_UNKNOWN);
}

std::optional<int32_t> Vocabulary::Find(absl::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace tessera::coordinator
