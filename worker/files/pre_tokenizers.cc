#include "worker/files/pre_tokenizers.h"

#include "absl/strings/str_join.h"

namespace tessera::worker {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char kSingleDigitPattern[] = R"(\p{N})";
const char kDigitRunPattern[] = R"(\p{N}+)";

namespace {

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kTekkenPattern[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The first name of equal patterns is the one NameOfPatterns gives.
const std::vector<PreTokenizer>& Table() {
  static const auto& table = *new std::vector<PreTokenizer>{
      {"gpt-2", {kGpt2Pattern}},
      {"default", {kGpt2Pattern}},
      {"smollm", {kSingleDigitPattern, kGpt2Pattern}},
      {"llama-bpe", {kLlama3Pattern}, false, /*ignore_merges=*/true, /*add_bos=*/true},
      {"llama3", {kLlama3Pattern}, false, /*ignore_merges=*/true, /*add_bos=*/true},
      {"llama-v3", {kLlama3Pattern}, false, /*ignore_merges=*/true, /*add_bos=*/true},
      // llama.cpp does not normalize; the model's own tokenizer.json does.
      {"qwen2", {kQwen2Pattern}, /*normalize_nfc=*/true},
      {"deepseek-r1-qwen", {kQwen2Pattern}, /*normalize_nfc=*/true},
      {"tekken", {kTekkenPattern}, false, /*ignore_merges=*/true, /*add_bos=*/true},
  };
  return table;
}

}  // namespace

const PreTokenizer* FindPreTokenizer(absl::string_view name) {
  for (const PreTokenizer& row : Table()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

std::string NameOfPatterns(const std::vector<std::string>& patterns) {
  for (const PreTokenizer& row : Table()) {
    if (row.patterns == patterns) return row.name;
  }
  return "";
}

std::string KnownPreTokenizers() {
  return absl::StrJoin(Table(), ", ", [](std::string* out, const PreTokenizer& row) {
    out->append(row.name);
  });
}

}  // namespace tessera::worker
