#include "worker/files/hf/post_processor.h"

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"

namespace tessera::worker {
namespace {

// The id of a special token that a template names.
absl::StatusOr<int32_t> TemplateTokenId(const std::string& where, const Json& processor,
                                        const Json& special, int num_tokens) {
  const Json* name = FindMember(special, "id");
  const Json* table = FindMember(processor, "special_tokens");
  const Json* entry = name != nullptr && name->is_string() && table != nullptr
                          ? FindMember(*table, name->get_ref<const std::string&>().c_str())
                          : nullptr;
  const Json* ids = entry != nullptr ? FindMember(*entry, "ids") : nullptr;
  if (ids == nullptr || !ids->is_array() || ids->size() != 1 ||
      !ids->front().is_number_unsigned() ||
      ids->front().get<uint64_t>() >= static_cast<uint64_t>(num_tokens)) {
    return FileError(where, absl::StrCat("expected one id below ", num_tokens,
                                         " in special_tokens for ", PrintableJson(special)));
  }
  return static_cast<int32_t>(ids->front().get<uint64_t>());
}

absl::Status ParseTemplate(const std::string& where, const Json& processor,
                           v1::TokenizerDescription* tokenizer) {
  const Json* single = FindMember(processor, "single");
  if (single == nullptr || !single->is_array()) return FileError(where, "expected single: [...]");
  std::vector<int32_t> before, after;
  bool seen_text = false;
  for (const Json& piece : *single) {
    if (FindMember(piece, "Sequence") != nullptr) {
      seen_text = true;
      continue;
    }
    const Json* special = FindMember(piece, "SpecialToken");
    if (special == nullptr) {
      return FileError(where, absl::StrCat("expected SpecialToken or Sequence, found ",
                                           PrintableJson(piece)));
    }
    TESSERA_ASSIGN_OR_RETURN(
        const int32_t id, TemplateTokenId(where, processor, *special, tokenizer->tokens_size()));
    (seen_text ? after : before).push_back(id);
  }
  if (before.size() > 1 || after.size() > 1) {
    return UnsupportedError(where, "more than one token before or after the text");
  }
  tokenizer->set_add_bos(!before.empty());
  tokenizer->set_add_eos(!after.empty());
  if (!before.empty()) tokenizer->set_bos_id(before[0]);
  if (!after.empty()) tokenizer->set_eos_id(after[0]);
  return absl::OkStatus();
}

absl::Status ParseProcessor(const std::string& where, const Json& processor,
                            v1::TokenizerDescription* tokenizer) {
  const ConfigReader read(where, processor);
  TESSERA_ASSIGN_OR_RETURN(const auto type, read.OptionalString("type"));
  if (type == "ByteLevel") return absl::OkStatus();  // only trims offsets
  if (type == "TemplateProcessing") return ParseTemplate(where, processor, tokenizer);
  const Json* children = read.Member("processors");
  if (type != "Sequence" || children == nullptr || !children->is_array()) {
    return UnsupportedError(where, absl::StrCat("not implemented: ", PrintableJson(processor)));
  }
  for (const Json& child : *children) {
    TESSERA_RETURN_IF_ERROR(ParseProcessor(where, child, tokenizer));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParsePostProcessor(const std::string& where, const Json& root,
                                v1::TokenizerDescription* tokenizer) {
  const Json* processor = FindMember(root, "post_processor");
  if (processor == nullptr) return absl::OkStatus();
  return ParseProcessor(absl::StrCat(where, ": post_processor"), *processor, tokenizer);
}

}  // namespace tessera::worker
