#include "worker/files/gguf/tokenizer.h"

#include <cctype>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/pre_tokenizers.h"
#include "worker/files/stop_tokens.h"

namespace tessera::worker {
namespace {

const char kPrefix[] = "tokenizer.ggml.";

// The file's numbering of token types.
std::optional<v1::TokenType> TypeFromGguf(int64_t number) {
  switch (number) {
    case 1:
      return v1::TOKEN_TYPE_NORMAL;
    case 2:
      return v1::TOKEN_TYPE_UNKNOWN;
    case 3:
      return v1::TOKEN_TYPE_CONTROL;
    case 4:
      return v1::TOKEN_TYPE_USER_DEFINED;
    case 5:
      return v1::TOKEN_TYPE_UNUSED;
    case 6:
      return v1::TOKEN_TYPE_BYTE;
    default:
      return std::nullopt;
  }
}

absl::Status CheckCount(const GgufMetadata& metadata, const std::string& key, size_t found,
                        int expected) {
  if (found == static_cast<size_t>(expected)) return absl::OkStatus();
  return FileError(metadata.path(), absl::StrCat(key, ": expected ", expected,
                                                 " entries, one per token, file has ", found));
}

absl::Status ReadTokens(const GgufMetadata& metadata, int vocab_size,
                        v1::TokenizerDescription* tokenizer) {
  const std::string key = absl::StrCat(kPrefix, "tokens");
  TESSERA_ASSIGN_OR_RETURN(const auto tokens, metadata.Strings(key));
  if (tokens.empty() || tokens.size() > static_cast<size_t>(vocab_size)) {
    return FileError(metadata.path(), absl::StrCat(key, ": expected 1 .. ", vocab_size,
                                                   " tokens (the vocabulary), file has ",
                                                   tokens.size()));
  }
  for (const absl::string_view token : tokens) {
    tokenizer->add_tokens(token.data(), token.size());
  }
  return absl::OkStatus();
}

// Set later, by GuessTypes, where the file has none.
absl::Status ReadTypes(const GgufMetadata& metadata, v1::TokenizerDescription* tokenizer) {
  const std::string key = absl::StrCat(kPrefix, "token_type");
  if (!metadata.Has(key)) return absl::OkStatus();
  TESSERA_ASSIGN_OR_RETURN(const auto numbers, metadata.Ints(key));
  TESSERA_RETURN_IF_ERROR(CheckCount(metadata, key, numbers.size(), tokenizer->tokens_size()));
  for (size_t id = 0; id < numbers.size(); ++id) {
    const auto type = TypeFromGguf(numbers[id]);
    if (!type) {
      return FileError(metadata.path(), absl::StrCat(key, ": token ", id, ": expected 1 .. 6, ",
                                                     "file has ", numbers[id]));
    }
    tokenizer->add_types(*type);
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const GgufMetadata& metadata, v1::TokenizerDescription* tokenizer) {
  const std::string key = absl::StrCat(kPrefix, "merges");
  if (!metadata.Has(key)) {
    return FileError(metadata.path(), absl::StrCat(key, ": expected an array of strings, ",
                                                   "file has nothing"));
  }
  TESSERA_ASSIGN_OR_RETURN(const auto merges, metadata.Strings(key));
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const absl::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    if (merge.empty() || space == absl::string_view::npos || space + 1 == merge.size()) {
      return FileError(metadata.path(), absl::StrCat(key, ": entry ", rank, ": expected \"left ",
                                                     "right\", file has \"", Printable(merge),
                                                     "\""));
    }
    tokenizer->add_merges(merge.data(), merge.size());
  }
  return absl::OkStatus();
}

// Byte-level BPE: merges, and the pre-tokenizer by name.
absl::Status ReadBytePart(const GgufMetadata& metadata, v1::TokenizerDescription* tokenizer) {
  TESSERA_RETURN_IF_ERROR(ReadMerges(metadata, tokenizer));
  const std::string key = absl::StrCat(kPrefix, "pre");
  TESSERA_ASSIGN_OR_RETURN(const auto name, metadata.OptionalString(key));
  const PreTokenizer* pre = FindPreTokenizer(name.value_or("default"));
  if (pre == nullptr) {
    return UnsupportedError(metadata.path(), absl::StrCat(key, " ", Printable(*name),
                                                          "; supported: ", KnownPreTokenizers()));
  }
  for (const std::string& pattern : pre->patterns) tokenizer->add_pre_tokenizer_patterns(pattern);
  tokenizer->set_pre_tokenizer_name(pre->name);
  tokenizer->set_normalize_nfc(pre->normalize_nfc);
  tokenizer->set_ignore_merges(pre->ignore_merges);
  tokenizer->set_add_bos(pre->add_bos);
  return absl::OkStatus();
}

absl::Status ReadSentencePiecePart(const GgufMetadata& metadata,
                                   v1::TokenizerDescription* tokenizer) {
  const std::string key = absl::StrCat(kPrefix, "scores");
  TESSERA_ASSIGN_OR_RETURN(const auto scores, metadata.Floats(key));
  TESSERA_RETURN_IF_ERROR(CheckCount(metadata, key, scores.size(), tokenizer->tokens_size()));
  for (const float score : scores) tokenizer->add_scores(score);
  tokenizer->set_add_bos(true);
  tokenizer->set_add_space_prefix(true);
  return absl::OkStatus();
}

// Where the file speaks, it overrules the defaults set before.
absl::Status ReadFlags(const GgufMetadata& metadata, v1::TokenizerDescription* tokenizer) {
  TESSERA_ASSIGN_OR_RETURN(const auto bos,
                           metadata.OptionalBool(absl::StrCat(kPrefix, "add_bos_token")));
  TESSERA_ASSIGN_OR_RETURN(const auto eos,
                           metadata.OptionalBool(absl::StrCat(kPrefix, "add_eos_token")));
  TESSERA_ASSIGN_OR_RETURN(const auto space,
                           metadata.OptionalBool(absl::StrCat(kPrefix, "add_space_prefix")));
  if (bos) tokenizer->set_add_bos(*bos);
  if (eos) tokenizer->set_add_eos(*eos);
  if (space) tokenizer->set_add_space_prefix(*space);
  return absl::OkStatus();
}

// "<0xNN>".
bool IsByteToken(absl::string_view token) {
  const auto is_hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
  return token.size() == 6 && absl::StartsWith(token, "<0x") && token[5] == '>' &&
         is_hex(token[3]) && is_hex(token[4]);
}

// What a file without token types says otherwise: special ids by their keys, bytes and well-known ends
// by their spelling.
void GuessTypes(const std::vector<int32_t>& ends, v1::TokenizerDescription* tokenizer) {
  const bool has_bytes = tokenizer->kind() == v1::TOKENIZER_KIND_SENTENCEPIECE_BPE;
  for (const std::string& token : tokenizer->tokens()) {
    tokenizer->add_types(has_bytes && IsByteToken(token) ? v1::TOKEN_TYPE_BYTE
                         : IsEndText(token)              ? v1::TOKEN_TYPE_CONTROL
                                                         : v1::TOKEN_TYPE_NORMAL);
  }
  for (const int32_t id : ends) tokenizer->set_types(id, v1::TOKEN_TYPE_CONTROL);
  if (tokenizer->has_bos_id()) tokenizer->set_types(tokenizer->bos_id(), v1::TOKEN_TYPE_CONTROL);
  if (tokenizer->has_eos_id()) tokenizer->set_types(tokenizer->eos_id(), v1::TOKEN_TYPE_CONTROL);
  if (tokenizer->has_pad_id()) tokenizer->set_types(tokenizer->pad_id(), v1::TOKEN_TYPE_CONTROL);
  if (tokenizer->has_unk_id()) tokenizer->set_types(tokenizer->unk_id(), v1::TOKEN_TYPE_UNKNOWN);
}

// The id under that key; `otherwise` where the file does not have the key.
absl::StatusOr<std::optional<int32_t>> ReadId(const GgufMetadata& metadata, const char* name,
                                              int num_tokens,
                                              std::optional<int32_t> otherwise = std::nullopt) {
  if (!metadata.Has(absl::StrCat(kPrefix, name))) {
    return otherwise && *otherwise < num_tokens ? otherwise : std::nullopt;
  }
  TESSERA_ASSIGN_OR_RETURN(
      const auto id, metadata.OptionalInt(absl::StrCat(kPrefix, name), -1, UINT32_MAX));
  // Writers say "none" as -1, in either width.
  if (!id || *id == -1 || *id == int64_t{UINT32_MAX}) return std::nullopt;
  if (*id >= num_tokens) {
    return FileError(metadata.path(), absl::StrCat(kPrefix, name, ": expected below ", num_tokens,
                                                   ", file has ", *id));
  }
  return static_cast<int32_t>(*id);
}

absl::Status ReadSpecialIds(const GgufMetadata& metadata, v1::TokenizerDescription* tokenizer) {
  const int count = tokenizer->tokens_size();
  // SentencePiece's own numbers, as llama.cpp takes them where a file has none.
  const bool sentencepiece = tokenizer->kind() == v1::TOKENIZER_KIND_SENTENCEPIECE_BPE;
  const auto usual = [sentencepiece](int32_t id) {
    return sentencepiece ? std::optional<int32_t>(id) : std::nullopt;
  };
  TESSERA_ASSIGN_OR_RETURN(const auto bos, ReadId(metadata, "bos_token_id", count, usual(1)));
  TESSERA_ASSIGN_OR_RETURN(const auto eos, ReadId(metadata, "eos_token_id", count, usual(2)));
  TESSERA_ASSIGN_OR_RETURN(const auto unk, ReadId(metadata, "unknown_token_id", count, usual(0)));
  TESSERA_ASSIGN_OR_RETURN(const auto pad, ReadId(metadata, "padding_token_id", count));
  if (bos) tokenizer->set_bos_id(*bos);
  if (eos) tokenizer->set_eos_id(*eos);
  if (unk) tokenizer->set_unk_id(*unk);
  if (pad) tokenizer->set_pad_id(*pad);

  std::vector<int32_t> ends;
  for (const char* name : {"eot_token_id", "eom_token_id"}) {
    TESSERA_ASSIGN_OR_RETURN(const auto end, ReadId(metadata, name, count));
    if (end) ends.push_back(*end);
  }
  if (tokenizer->types_size() == 0) GuessTypes(ends, tokenizer);
  SetStopIds(ends, tokenizer);
  // A token that the vocabulary does not have is not put anywhere.
  if (!bos) tokenizer->set_add_bos(false);
  if (!eos) tokenizer->set_add_eos(false);
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadGgufTokenizer(const GgufMetadata& metadata, v1::ModelDescription* description) {
  TESSERA_ASSIGN_OR_RETURN(const auto chat_template,
                           metadata.OptionalString("tokenizer.chat_template"));
  if (chat_template) description->set_chat_template(std::string(*chat_template));

  v1::TokenizerDescription* tokenizer = description->mutable_tokenizer();
  TESSERA_ASSIGN_OR_RETURN(const auto model,
                           metadata.OptionalString(absl::StrCat(kPrefix, "model")));
  if (!model || *model == "none" || *model == "no_vocab") return absl::OkStatus();
  const bool byte_level = *model == "gpt2";
  if (!byte_level && *model != "llama") {
    return UnsupportedError(metadata.path(), absl::StrCat(kPrefix, "model ", Printable(*model),
                                                          "; supported: gpt2, llama"));
  }
  tokenizer->set_kind(byte_level ? v1::TOKENIZER_KIND_BYTE_LEVEL_BPE : v1::TOKENIZER_KIND_SENTENCEPIECE_BPE);
  TESSERA_RETURN_IF_ERROR(
      ReadTokens(metadata, description->architecture().vocab_size(), tokenizer));
  TESSERA_RETURN_IF_ERROR(ReadTypes(metadata, tokenizer));
  TESSERA_RETURN_IF_ERROR(byte_level ? ReadBytePart(metadata, tokenizer)
                                     : ReadSentencePiecePart(metadata, tokenizer));
  TESSERA_RETURN_IF_ERROR(ReadFlags(metadata, tokenizer));
  return ReadSpecialIds(metadata, tokenizer);
}

}  // namespace tessera::worker
