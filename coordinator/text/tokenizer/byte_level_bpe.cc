#include "coordinator/text/tokenizer/byte_level_bpe.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/tokenizer/base_tokenizer.h"
#include "coordinator/text/tokenizer/merge_table.h"
#include "coordinator/text/tokenizer/pre_tokenizer.h"
#include "coordinator/text/tokenizer/symbol_merger.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Merger = SymbolMerger<int32_t>;  // by rank

bool IsPrintableLatin1(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

class ByteLevelBpe final : public BaseTokenizer {
 public:
  ByteLevelBpe(Vocabulary words, PreTokenizer pre_tokenizer)
      : BaseTokenizer(std::move(words)), pre_tokenizer_(std::move(pre_tokenizer)) {}

  absl::Status Init(const v1::TokenizerDescription& description) {
    normalize_nfc_ = description.normalize_nfc();
    TESSERA_RETURN_IF_ERROR(ReadTokens());
    if (description.ignore_merges()) IndexWholeWords();
    TESSERA_ASSIGN_OR_RETURN(merges_, MergeTable::Create(description, vocabulary()));
    return absl::OkStatus();
  }

  bool strips_leading_space() const override { return false; }

 private:
  absl::Status EncodeText(absl::string_view text, TextPlace place,
                          std::vector<int32_t>& ids) const override;
  void EncodePiece(absl::string_view piece, Merger& merger, std::vector<int32_t>& ids) const;

  absl::Status ReadTokens();
  void IndexWholeWords();

  PreTokenizer pre_tokenizer_;
  bool normalize_nfc_ = false;
  std::array<int32_t, 256> byte_ids_{};  // -1: the vocabulary has no token for that byte
  MergeTable merges_;
  absl::flat_hash_map<std::string, int32_t> whole_words_;  // bytes → id, with ignore_merges only
};

absl::Status ByteLevelBpe::ReadTokens() {
  std::vector<std::string> bytes(vocab_size());
  for (int32_t id = 0; id < vocab_size(); ++id) {
    const std::string& token = vocabulary().token(id);
    std::optional<std::string> decoded = token;  // control and user-defined: verbatim
    if (vocabulary().type(id) == v1::TOKEN_TYPE_NORMAL) decoded = BytesOfAlphabet(token);
    if (!decoded) {
      return wire::FieldError(
          absl::StrCat("tokenizer.tokens[", id, "]"),
          absl::StrCat(Quoted(token), " has a character outside the byte-level alphabet"));
    }
    bytes[id] = *std::move(decoded);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const int32_t id = vocabulary().Find(ByteAlphabet()[byte]).value_or(-1);
    byte_ids_[byte] = IsControl(id) ? -1 : id;
  }
  return SetTokenBytes(std::move(bytes));
}

void ByteLevelBpe::IndexWholeWords() {
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (vocabulary().type(id) == v1::TOKEN_TYPE_NORMAL) whole_words_.emplace(TokenBytes(id), id);
  }
}

absl::Status ByteLevelBpe::EncodeText(absl::string_view text, TextPlace /*place*/,
                                      std::vector<int32_t>& ids) const {
  std::string normalized;
  if (normalize_nfc_) {
    normalized = NormalizeNfc(text);
    text = normalized;
  }
  TESSERA_ASSIGN_OR_RETURN(const auto pieces, pre_tokenizer_.Split(text));
  Merger merger;
  for (const absl::string_view piece : pieces) EncodePiece(piece, merger, ids);
  return absl::OkStatus();
}

void ByteLevelBpe::EncodePiece(absl::string_view piece, Merger& merger,
                               std::vector<int32_t>& ids) const {
  if (!whole_words_.empty()) {
    const auto word = whole_words_.find(piece);
    if (word != whole_words_.end()) {
      ids.push_back(word->second);
      return;
    }
  }
  merger.Clear();
  for (const char c : piece) {
    // A byte without a token vanishes before merging, as it does in the reference: SmolLM2 has none
    // for bytes that its training text never held.
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id >= 0) merger.Append(id, 1);
  }
  merger.Merge([&](const Symbol& left, const Symbol& right) -> std::optional<Merger::Candidate> {
    const Merge* merge = merges_.Find(left.id, right.id);
    if (merge == nullptr) return std::nullopt;
    return Merger::Candidate{merge->rank, merge->product};
  });
  merger.ForEach([&](const Symbol& symbol) { ids.push_back(symbol.id); });
}

}  // namespace

const std::array<std::string, 256>& ByteAlphabet() {
  static const auto& alphabet = *new std::array<std::string, 256>([] {
    std::array<std::string, 256> characters;
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const int codepoint = IsPrintableLatin1(byte) ? byte : next++;
      if (codepoint < 0x80) {
        characters[byte] = std::string(1, static_cast<char>(codepoint));
      } else {  // at most U+0143: two bytes
        characters[byte] = {static_cast<char>(0xC0 | codepoint >> 6),
                            static_cast<char>(0x80 | (codepoint & 0x3F))};
      }
    }
    return characters;
  }());
  return alphabet;
}

std::optional<std::string> BytesOfAlphabet(absl::string_view token) {
  static const auto& bytes = *new absl::flat_hash_map<std::string, char>([] {
    absl::flat_hash_map<std::string, char> map;
    for (int byte = 0; byte < 256; ++byte) map[ByteAlphabet()[byte]] = static_cast<char>(byte);
    return map;
  }());
  std::string out;
  for (size_t pos = 0; pos < token.size();) {
    const absl::string_view character = token.substr(pos, Utf8CharLength(token[pos]));
    const auto byte = bytes.find(character);
    if (byte == bytes.end()) return std::nullopt;
    out += byte->second;
    pos += character.size();
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateByteLevelBpe(
    const v1::TokenizerDescription& description) {
  TESSERA_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(description));
  TESSERA_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer,
                           PreTokenizer::Create({description.pre_tokenizer_patterns().begin(),
                                                 description.pre_tokenizer_patterns().end()}));
  auto tokenizer = std::make_unique<ByteLevelBpe>(std::move(vocabulary), std::move(pre_tokenizer));
  TESSERA_RETURN_IF_ERROR(tokenizer->Init(description));
  return tokenizer;
}

}  // namespace tessera::coordinator
