#include "worker/files/hf/pre_tokenizer.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/pre_tokenizers.h"

namespace tessera::worker {
namespace {

constexpr char kSpaceMark[] = "\xE2\x96\x81";  // U+2581

std::string TypeOf(const Json& node) {
  const Json* type = FindMember(node, "type");
  return type != nullptr && type->is_string() ? type->get<std::string>() : "";
}

// A normalizer or pre-tokenizer as the list of its steps, Sequences unfolded. JSON's depth limit
// bounds the recursion.
absl::Status Flatten(const std::string& where, const Json* node, const char* children_key,
                     std::vector<const Json*>* steps) {
  if (node == nullptr) return absl::OkStatus();
  if (TypeOf(*node) != "Sequence") {
    steps->push_back(node);
    return absl::OkStatus();
  }
  const Json* children = FindMember(*node, children_key);
  if (children == nullptr || !children->is_array()) {
    return FileError(where, absl::StrCat("Sequence: expected an array ", children_key));
  }
  for (const Json& child : *children) {
    TESSERA_RETURN_IF_ERROR(Flatten(where, &child, children_key, steps));
  }
  return absl::OkStatus();
}

absl::Status Unsupported(const std::string& where, const Json& step) {
  return UnsupportedError(where, absl::StrCat("not implemented: ", PrintableJson(step)));
}

std::string QuoteForRegex(const std::string& text) {
  std::string quoted;
  for (const char c : text) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                       static_cast<unsigned char>(c) >= 0x80;
    if (!plain) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

absl::StatusOr<std::string> SplitPattern(const std::string& where, const Json& step) {
  const ConfigReader read(where, step);
  TESSERA_ASSIGN_OR_RETURN(const auto behavior, read.OptionalString("behavior"));
  TESSERA_ASSIGN_OR_RETURN(const bool invert, read.BoolOr("invert", false));
  if (behavior.value_or("") != "Isolated" || invert) return Unsupported(where, step);
  const Json* pattern = read.Member("pattern");
  for (const char* key : {"Regex", "String"}) {
    const Json* text = pattern ? FindMember(*pattern, key) : nullptr;
    if (text == nullptr || !text->is_string()) continue;
    const auto& value = text->get_ref<const std::string&>();
    return key[0] == 'R' ? value : QuoteForRegex(value);
  }
  return FileError(where, absl::StrCat("Split: expected pattern with Regex or String, found ",
                                       PrintableJson(step)));
}

absl::Status ParseByteLevelSteps(const std::string& where, const std::vector<const Json*>& steps,
                                 v1::TokenizerDescription* tokenizer) {
  std::vector<std::string> patterns;
  bool in_bytes = false;
  for (const Json* step : steps) {
    const std::string type = TypeOf(*step);
    const ConfigReader read(where, *step);
    // After ByteLevel the text is in the byte alphabet; a pattern there would mean something else.
    if (in_bytes) return Unsupported(where, *step);
    if (type == "ByteLevel") {
      in_bytes = true;
      TESSERA_ASSIGN_OR_RETURN(const bool prefix, read.BoolOr("add_prefix_space", true));
      if (prefix) return Unsupported(where, *step);
      TESSERA_ASSIGN_OR_RETURN(const bool use_regex, read.BoolOr("use_regex", true));
      if (use_regex) patterns.push_back(kGpt2Pattern);
    } else if (type == "Split") {
      TESSERA_ASSIGN_OR_RETURN(patterns.emplace_back(), SplitPattern(where, *step));
    } else if (type == "Digits") {
      TESSERA_ASSIGN_OR_RETURN(const bool single, read.BoolOr("individual_digits", false));
      patterns.push_back(single ? kSingleDigitPattern : kDigitRunPattern);
    } else {
      return Unsupported(where, *step);
    }
  }
  for (const std::string& pattern : patterns) tokenizer->add_pre_tokenizer_patterns(pattern);
  tokenizer->set_pre_tokenizer_name(NameOfPatterns(patterns));
  return absl::OkStatus();
}

absl::Status ParseByteLevelNormalizer(const std::string& where,
                                      const std::vector<const Json*>& steps,
                                      v1::TokenizerDescription* tokenizer) {
  for (const Json* step : steps) {
    if (TypeOf(*step) != "NFC") return Unsupported(where, *step);
    tokenizer->set_normalize_nfc(true);
  }
  return absl::OkStatus();
}

absl::Status ParseSentencePieceNormalizer(const std::string& where,
                                          const std::vector<const Json*>& steps,
                                          v1::TokenizerDescription* tokenizer) {
  for (const Json* step : steps) {
    const std::string type = TypeOf(*step);
    const Json* prepend = FindMember(*step, "prepend");
    const Json* content = FindMember(*step, "content");
    const Json* pattern = FindMember(*step, "pattern");
    const Json* from = pattern ? FindMember(*pattern, "String") : nullptr;
    if (type == "Prepend" && prepend != nullptr && *prepend == kSpaceMark) {
      tokenizer->set_add_space_prefix(true);
    } else if (!(type == "Replace" && from != nullptr && *from == " " && content != nullptr &&
                 *content == kSpaceMark)) {
      return Unsupported(where, *step);
    }
  }
  return absl::OkStatus();
}

absl::Status ParseMetaspace(const std::string& where, const Json& step,
                            v1::TokenizerDescription* tokenizer) {
  if (TypeOf(step) != "Metaspace") return Unsupported(where, step);
  const ConfigReader read(where, step);
  TESSERA_ASSIGN_OR_RETURN(const auto replacement, read.OptionalString("replacement"));
  TESSERA_ASSIGN_OR_RETURN(const bool split, read.BoolOr("split", true));
  if (replacement.value_or(kSpaceMark) != kSpaceMark || split) return Unsupported(where, step);
  TESSERA_ASSIGN_OR_RETURN(const auto scheme, read.OptionalString("prepend_scheme"));
  TESSERA_ASSIGN_OR_RETURN(const bool old_prefix, read.BoolOr("add_prefix_space", true));
  const std::string prefix(scheme.value_or(old_prefix ? "always" : "never"));
  if (prefix != "always" && prefix != "first" && prefix != "never") return Unsupported(where, step);
  tokenizer->set_add_space_prefix(prefix != "never");
  tokenizer->set_space_prefix_at_start_only(prefix == "first");
  tokenizer->set_space_prefix_unless_spaced(prefix != "never");
  return absl::OkStatus();
}

}  // namespace

absl::Status ParsePreTokenizer(const std::string& where, const Json& root,
                               v1::TokenizerDescription* tokenizer) {
  const std::string normalizer_where = absl::StrCat(where, ": normalizer");
  const std::string pre_where = absl::StrCat(where, ": pre_tokenizer");
  std::vector<const Json*> normalizer, pre;
  TESSERA_RETURN_IF_ERROR(
      Flatten(normalizer_where, FindMember(root, "normalizer"), "normalizers", &normalizer));
  TESSERA_RETURN_IF_ERROR(
      Flatten(pre_where, FindMember(root, "pre_tokenizer"), "pretokenizers", &pre));

  const bool byte_level = std::any_of(
      pre.begin(), pre.end(), [](const Json* step) { return TypeOf(*step) == "ByteLevel"; });
  if (byte_level) {
    tokenizer->set_kind(v1::TOKENIZER_KIND_BYTE_LEVEL_BPE);
    TESSERA_RETURN_IF_ERROR(ParseByteLevelNormalizer(normalizer_where, normalizer, tokenizer));
    return ParseByteLevelSteps(pre_where, pre, tokenizer);
  }
  const ConfigReader model(absl::StrCat(where, ": model"), *FindMember(root, "model"));
  TESSERA_ASSIGN_OR_RETURN(const bool byte_fallback, model.BoolOr("byte_fallback", false));
  if (!byte_fallback) {
    return UnsupportedError(where, "expected a ByteLevel pre_tokenizer or byte_fallback");
  }
  tokenizer->set_kind(v1::TOKENIZER_KIND_SENTENCEPIECE_BPE);
  TESSERA_RETURN_IF_ERROR(ParseSentencePieceNormalizer(normalizer_where, normalizer, tokenizer));
  for (const Json* step : pre) {
    TESSERA_RETURN_IF_ERROR(ParseMetaspace(pre_where, *step, tokenizer));
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
