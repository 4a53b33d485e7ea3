// The part of a TokenizerDescription that every kind of tokenizer shares, checked: tokens, their
// types, the special ids. The description comes over the wire, so nothing in it is believed.
// Immutable after Create.
//
//   TESSERA_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(description));
//   std::optional<int32_t> id = vocabulary.Find("Ġthe");
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_VOCABULARY_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

class Vocabulary {
 public:
  // INVALID_ARGUMENT naming the field ("tokenizer.tokens[7]").
  static absl::StatusOr<Vocabulary> Create(const v1::TokenizerDescription& description);

  int size() const { return static_cast<int>(tokens_.size()); }
  bool Contains(int32_t id) const { return id >= 0 && id < size(); }
  // As the file writes it, before any alphabet is undone. `id` must be in the vocabulary.
  const std::string& token(int32_t id) const { return tokens_[id]; }
  v1::TokenType type(int32_t id) const { return types_[id]; }
  bool IsControl(int32_t id) const;  // CONTROL and UNKNOWN: not text
  bool IsStop(int32_t id) const { return Contains(id) && stops_[id]; }
  std::optional<int32_t> Find(absl::string_view token) const;

  // Present where the description wants them added.
  std::optional<int32_t> leading_bos() const { return leading_bos_; }
  std::optional<int32_t> trailing_eos() const { return trailing_eos_; }
  std::optional<int32_t> unk_id() const { return unk_id_; }

 private:
  absl::Status ReadTokens(const v1::TokenizerDescription& description);
  absl::Status ReadSpecialIds(const v1::TokenizerDescription& description);

  std::vector<std::string> tokens_;
  std::vector<v1::TokenType> types_;
  std::vector<bool> stops_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  std::optional<int32_t> leading_bos_, trailing_eos_, unk_id_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_VOCABULARY_H_
