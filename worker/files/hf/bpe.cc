#include "worker/files/hf/bpe.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/hf/post_processor.h"
#include "worker/files/hf/pre_tokenizer.h"

namespace tessera::worker {
namespace {

// A string member, or the pair ["left", "right"].
absl::StatusOr<std::pair<std::string, std::string>> ParseMerge(const std::string& where,
                                                               size_t rank, const Json& merge) {
  std::string left, right;
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    left = merge[0].get<std::string>();
    right = merge[1].get<std::string>();
  }
  if (left.empty() || right.empty()) {
    return FileError(where, absl::StrCat("model.merges: entry ", rank, ": expected \"left right\" ",
                                         "or a pair, found ", PrintableJson(merge)));
  }
  return std::pair(std::move(left), std::move(right));
}

// Puts `text` at `id`, growing the table; a hole stays an empty UNUSED entry.
absl::Status SetToken(const std::string& where, const std::string& text, const Json& id_value,
                      int vocab_size, v1::TokenizerDescription* tokenizer) {
  if (!id_value.is_number_unsigned() ||
      id_value.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
    return FileError(where, absl::StrCat("token \"", Printable(text), "\": expected an id below ",
                                         vocab_size, " (the vocabulary), found ",
                                         PrintableJson(id_value)));
  }
  const int id = static_cast<int>(id_value.get<uint64_t>());
  while (tokenizer->tokens_size() <= id) {
    tokenizer->add_tokens("");
    tokenizer->add_types(v1::TOKEN_TYPE_UNUSED);
  }
  if (tokenizer->types(id) != v1::TOKEN_TYPE_UNUSED && tokenizer->tokens(id) != text) {
    return FileError(where, absl::StrCat("id ", id, ": both \"", Printable(tokenizer->tokens(id)),
                                         "\" and \"", Printable(text), "\""));
  }
  tokenizer->set_tokens(id, text);
  tokenizer->set_types(id, v1::TOKEN_TYPE_NORMAL);
  return absl::OkStatus();
}

absl::Status ReadVocab(const std::string& where, const Json& model, int vocab_size,
                       v1::TokenizerDescription* tokenizer) {
  const Json* vocab = FindMember(model, "vocab");
  if (vocab == nullptr || !vocab->is_object() || vocab->empty()) {
    return FileError(where, "model.vocab: expected an object of tokens to ids");
  }
  for (const auto& [text, id] : vocab->items()) {
    TESSERA_RETURN_IF_ERROR(SetToken(where, text, id, vocab_size, tokenizer));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedToken(const std::string& where, const Json& added, int vocab_size,
                            v1::TokenizerDescription* tokenizer) {
  const ConfigReader read(absl::StrCat(where, ": added_tokens"), added);
  const Json* id = read.Member("id");
  TESSERA_ASSIGN_OR_RETURN(const auto content, read.OptionalString("content"));
  if (id == nullptr || !content || content->empty()) {
    return FileError(read.where(), absl::StrCat("expected id and content, found ",
                                                PrintableJson(added)));
  }
  for (const char* key : {"single_word", "lstrip", "rstrip"}) {
    TESSERA_ASSIGN_OR_RETURN(const bool set, read.BoolOr(key, false));
    if (set) {
      return UnsupportedError(read.where(), absl::StrCat("\"", Printable(*content), "\" with ", key,
                                                         "; supported: false"));
    }
  }
  TESSERA_ASSIGN_OR_RETURN(const bool special, read.BoolOr("special", false));
  TESSERA_RETURN_IF_ERROR(SetToken(where, *content, *id, vocab_size, tokenizer));
  tokenizer->set_types(static_cast<int>(id->get<uint64_t>()),
                       special ? v1::TOKEN_TYPE_CONTROL : v1::TOKEN_TYPE_USER_DEFINED);
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const std::string& where, const Json& root, int vocab_size,
                             v1::TokenizerDescription* tokenizer) {
  const Json* added = FindMember(root, "added_tokens");
  if (added == nullptr) return absl::OkStatus();
  if (!added->is_array()) return FileError(where, "added_tokens: expected an array");
  for (const Json& token : *added) {
    TESSERA_RETURN_IF_ERROR(ReadAddedToken(where, token, vocab_size, tokenizer));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadMerges(
    const std::string& where, const Json& model) {
  const Json* merges = FindMember(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return FileError(where, "model.merges: expected an array");
  }
  std::vector<std::pair<std::string, std::string>> result;
  result.reserve(merges->size());
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    TESSERA_ASSIGN_OR_RETURN(result.emplace_back(), ParseMerge(where, rank, (*merges)[rank]));
  }
  return result;
}

bool IsByteToken(const std::string& text) {
  return text.size() == 6 && absl::StartsWith(text, "<0x") && text[5] == '>';
}

void MarkSentencePieceTypes(const Json& model, v1::TokenizerDescription* tokenizer) {
  const Json* unk = FindMember(model, "unk_token");
  for (int id = 0; id < tokenizer->tokens_size(); ++id) {
    const std::string& text = tokenizer->tokens(id);
    if (unk != nullptr && unk->is_string() && text == unk->get_ref<const std::string&>()) {
      tokenizer->set_types(id, v1::TOKEN_TYPE_UNKNOWN);
      tokenizer->set_unk_id(id);
    } else if (tokenizer->types(id) == v1::TOKEN_TYPE_NORMAL && IsByteToken(text)) {
      tokenizer->set_types(id, v1::TOKEN_TYPE_BYTE);
    }
  }
}

absl::Status RefuseUnsupported(const ConfigReader& model) {
  TESSERA_ASSIGN_OR_RETURN(const auto type, model.OptionalString("type"));
  if (type && *type != "BPE") {
    return UnsupportedError(model.where(), absl::StrCat("type ", Printable(*type),
                                                        "; supported: BPE"));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    TESSERA_ASSIGN_OR_RETURN(const auto affix, model.OptionalString(key));
    if (affix && !affix->empty()) {
      return UnsupportedError(model.where(), absl::StrCat(key, " ", Printable(*affix),
                                                          "; supported: none"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseTokenizerJson(const std::string& where, const Json& root, int vocab_size,
                                v1::TokenizerDescription* tokenizer) {
  const Json* model = FindMember(root, "model");
  if (model == nullptr || !model->is_object()) return FileError(where, "model: expected an object");
  const ConfigReader read(absl::StrCat(where, ": model"), *model);
  TESSERA_RETURN_IF_ERROR(RefuseUnsupported(read));
  TESSERA_RETURN_IF_ERROR(ParsePreTokenizer(where, root, tokenizer));
  TESSERA_RETURN_IF_ERROR(ReadVocab(where, *model, vocab_size, tokenizer));
  TESSERA_RETURN_IF_ERROR(ReadAddedTokens(where, root, vocab_size, tokenizer));
  TESSERA_ASSIGN_OR_RETURN(const auto merges, ReadMerges(where, *model));

  for (const auto& [left, right] : merges) {
    tokenizer->add_merges(absl::StrCat(left, " ", right));
  }
  if (tokenizer->kind() == v1::TOKENIZER_KIND_BYTE_LEVEL_BPE) {
    TESSERA_ASSIGN_OR_RETURN(const bool ignore_merges, read.BoolOr("ignore_merges", false));
    tokenizer->set_ignore_merges(ignore_merges);
  } else {
    // The description's way to say that scores rule.
    if (merges.empty()) return FileError(where, "model.merges: expected some, found none");
    MarkSentencePieceTypes(*model, tokenizer);
  }
  return ParsePostProcessor(where, root, tokenizer);
}

}  // namespace tessera::worker
