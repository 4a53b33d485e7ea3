#include "coordinator/text/tokenizer/sentencepiece_bpe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "coordinator/text/tokenizer/base_tokenizer.h"
#include "coordinator/text/tokenizer/merge_table.h"
#include "coordinator/text/tokenizer/symbol_merger.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Merger = SymbolMerger<float>;  // by rank, or by minus the score

constexpr absl::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// "<0x0A>" → 10
std::optional<uint8_t> ByteOfToken(absl::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  int value = 0;
  if (!absl::SimpleHexAtoi(token.substr(3, 2), &value) || value < 0 || value > 255) {
    return std::nullopt;
  }
  return static_cast<uint8_t>(value);
}

class SentencePieceBpe final : public BaseTokenizer {
 public:
  using BaseTokenizer::BaseTokenizer;

  absl::Status Init(const v1::TokenizerDescription& description) {
    add_space_prefix_ = description.add_space_prefix();
    prefix_at_start_only_ = description.space_prefix_at_start_only();
    prefix_unless_spaced_ = description.space_prefix_unless_spaced();
    TESSERA_RETURN_IF_ERROR(ReadTokens());
    if (description.merges_size() == 0) return ReadScores(description);
    IndexWords(std::vector<float>(vocab_size()));
    TESSERA_ASSIGN_OR_RETURN(merges_, MergeTable::Create(description, vocabulary()));
    return absl::OkStatus();
  }

  bool strips_leading_space() const override { return add_space_prefix_; }

 private:
  struct Entry {
    int32_t id;
    float score;
  };

  absl::Status EncodeText(absl::string_view text, TextPlace place,
                          std::vector<int32_t>& ids) const override;
  bool WantsSpacePrefix(absl::string_view text, TextPlace place) const;
  std::optional<Merger::Candidate> FindWord(absl::string_view text) const;
  std::optional<Merger::Candidate> FindMerge(const Symbol& left, const Symbol& right) const;
  void EncodeUnknown(absl::string_view character, bool follows_unknown,
                     std::vector<int32_t>& ids) const;

  absl::Status ReadTokens();
  absl::Status ReadScores(const v1::TokenizerDescription& description);
  void IndexWords(const std::vector<float>& scores);

  bool add_space_prefix_ = false;
  bool prefix_at_start_only_ = false;
  bool prefix_unless_spaced_ = false;
  std::array<int32_t, 256> byte_ids_{};  // -1: no such token
  bool has_all_bytes_ = false;
  absl::flat_hash_map<std::string, Entry> words_;  // what characters may merge into
  size_t longest_word_ = 0;                        // bytes
  std::optional<MergeTable> merges_;  // rules instead of the scores, where there is one
};

absl::Status SentencePieceBpe::ReadTokens() {
  std::vector<std::string> bytes(vocab_size());
  byte_ids_.fill(-1);
  for (int32_t id = 0; id < vocab_size(); ++id) {
    const std::string& token = vocabulary().token(id);
    if (vocabulary().type(id) == v1::TOKEN_TYPE_BYTE) {
      const std::optional<uint8_t> byte = ByteOfToken(token);
      if (!byte) {
        return wire::FieldError(
            absl::StrCat("tokenizer.tokens[", id, "]"),
            absl::StrCat("is ", Quoted(token), "; expected a byte token written <0xNN>"));
      }
      byte_ids_[*byte] = id;
      bytes[id] = std::string(1, static_cast<char>(*byte));
    } else if (IsControl(id)) {
      bytes[id] = token;
    } else {
      bytes[id] = absl::StrReplaceAll(token, {{kSpaceMark, " "}});
    }
  }
  has_all_bytes_ =
      std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
  if (!has_all_bytes_ && !vocabulary().unk_id()) {
    return wire::FieldError("tokenizer.unk_id",
                            "is absent, and not every byte has its token <0xNN>");
  }
  return SetTokenBytes(std::move(bytes));
}

absl::Status SentencePieceBpe::ReadScores(const v1::TokenizerDescription& description) {
  if (description.scores_size() != vocab_size()) {
    return wire::FieldError("tokenizer.scores", absl::StrCat("has ", description.scores_size(),
                                                             " entries; expected one for each of ",
                                                             vocab_size(), " tokens"));
  }
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (!std::isfinite(description.scores(id))) {
      return wire::FieldError(absl::StrCat("tokenizer.scores[", id, "]"), "is not finite");
    }
  }
  IndexWords({description.scores().begin(), description.scores().end()});
  return absl::OkStatus();
}

void SentencePieceBpe::IndexWords(const std::vector<float>& scores) {
  for (int32_t id = 0; id < vocab_size(); ++id) {
    const std::string& token = vocabulary().token(id);
    const v1::TokenType type = vocabulary().type(id);
    const bool is_word = type == v1::TOKEN_TYPE_NORMAL || type == v1::TOKEN_TYPE_USER_DEFINED || type == v1::TOKEN_TYPE_UNUSED;
    if (!is_word || token.empty()) continue;
    words_[token] = {id, scores[id]};
    longest_word_ = std::max(longest_word_, token.size());
  }
}

bool SentencePieceBpe::WantsSpacePrefix(absl::string_view text, TextPlace place) const {
  if (!add_space_prefix_ || place == TextPlace::kAfterText) return false;
  if (prefix_at_start_only_ && place != TextPlace::kStart) return false;
  const bool is_spaced = text[0] == ' ' || absl::StartsWith(text, kSpaceMark);
  return !(prefix_unless_spaced_ && is_spaced);
}

std::optional<Merger::Candidate> SentencePieceBpe::FindWord(absl::string_view text) const {
  if (text.size() > longest_word_) return std::nullopt;
  const auto word = words_.find(text);
  if (word == words_.end()) return std::nullopt;
  return Merger::Candidate{-word->second.score, word->second.id};
}

std::optional<Merger::Candidate> SentencePieceBpe::FindMerge(const Symbol& left,
                                                             const Symbol& right) const {
  const Merge* merge = merges_->Find(left.id, right.id);
  if (merge == nullptr) return std::nullopt;
  return Merger::Candidate{static_cast<float>(merge->rank), merge->product};
}

absl::Status SentencePieceBpe::EncodeText(absl::string_view text, TextPlace place,
                                          std::vector<int32_t>& ids) const {
  std::string marked = WantsSpacePrefix(text, place) ? " " : "";
  marked.append(text.data(), text.size());
  marked = absl::StrReplaceAll(marked, {{" ", kSpaceMark}});
  const absl::string_view view = marked;

  Merger merger;
  for (size_t pos = 0; pos < view.size();) {
    const size_t length = Utf8CharLength(view[pos]);
    const auto word = words_.find(view.substr(pos, length));
    merger.Append(word == words_.end() ? -1 : word->second.id, static_cast<uint32_t>(length));
    pos += length;
  }
  merger.Merge([&](const Symbol& left, const Symbol& right) -> std::optional<Merger::Candidate> {
    return merges_ ? FindMerge(left, right)
                   : FindWord(view.substr(left.begin, left.length + right.length));
  });
  bool follows_unknown = false;
  merger.ForEach([&](const Symbol& symbol) {
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
    } else {
      EncodeUnknown(view.substr(symbol.begin, symbol.length), follows_unknown, ids);
    }
    follows_unknown = symbol.id < 0;
  });
  return absl::OkStatus();
}

// Bytes where there are tokens for them, else one unknown token for a run of such characters.
void SentencePieceBpe::EncodeUnknown(absl::string_view character, bool follows_unknown,
                                     std::vector<int32_t>& ids) const {
  if (has_all_bytes_) {
    for (const char c : character) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
  } else if (!follows_unknown) {
    ids.push_back(*vocabulary().unk_id());
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateSentencePieceBpe(
    const v1::TokenizerDescription& description) {
  TESSERA_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(description));
  auto tokenizer = std::make_unique<SentencePieceBpe>(std::move(vocabulary));
  TESSERA_RETURN_IF_ERROR(tokenizer->Init(description));
  return tokenizer;
}

}  // namespace tessera::coordinator
