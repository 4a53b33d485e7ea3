// The pairs of tokens that merge, by rank: BPE's learned table. Immutable once created, any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(const MergeTable merges, MergeTable::Create(description, vocabulary));
//   if (const Merge* merge = merges.Find(left_id, right_id)) ...  // the lowest rank goes first
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_MERGE_TABLE_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_MERGE_TABLE_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "coordinator/text/tokenizer/vocabulary.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

struct Merge {
  int32_t rank;
  int32_t product;  // the id of the two tokens' texts in one
};

class MergeTable {
 public:
  // INVALID_ARGUMENT, naming the entry, for one that is not "left right" with both and their
  // product in the vocabulary, or that comes twice. Entries with a control token are left out: text
  // never becomes one, whatever the merges say.
  static absl::StatusOr<MergeTable> Create(const v1::TokenizerDescription& description,
                                           const Vocabulary& vocabulary);

  // nullptr when the two do not merge; ids may be -1.
  const Merge* Find(int32_t left, int32_t right) const {
    const auto merge = merges_.find(Key(left, right));
    return merge == merges_.end() ? nullptr : &merge->second;
  }

 private:
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  absl::flat_hash_map<uint64_t, Merge> merges_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_MERGE_TABLE_H_
