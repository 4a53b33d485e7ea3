// The loop that every BPE shares: of all adjacent pairs merge the best (ties: the leftmost) until
// none can be merged. A linked list and a priority queue, so n log n for a text of n symbols.
// Not thread-safe; reuse one for many pieces, it keeps its memory.
//
//   SymbolMerger<int32_t> merger;
//   merger.Append(id, length) ...;
//   merger.Merge([&](const Symbol& left, const Symbol& right) { return ranks.Find(...); });
//   merger.ForEach([&](const Symbol& symbol) { ids.push_back(symbol.id); });
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_SYMBOL_MERGER_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_SYMBOL_MERGER_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace tessera::coordinator {

struct Symbol {
  int32_t id = -1;      // -1: no vocabulary entry (SentencePiece resolves those afterwards)
  uint32_t begin = 0;   // offset in the piece
  uint32_t length = 0;  // 0: merged into its left neighbour
  int32_t previous = -1;
  int32_t next = -1;
};

// `Priority`: the smaller, the earlier.
template <typename Priority>
class SymbolMerger {
 public:
  struct Candidate {
    Priority priority;
    int32_t merged_id;
  };

  void Clear() {
    symbols_.clear();
    queue_.clear();
  }

  void Append(int32_t id, uint32_t length) {
    const auto index = static_cast<int32_t>(symbols_.size());
    Symbol symbol{id, 0, length, index - 1, -1};
    if (index > 0) {
      symbols_.back().next = index;
      symbol.begin = symbols_.back().begin + symbols_.back().length;
    }
    symbols_.push_back(symbol);
  }

  // `lookup(left, right)` gives std::optional<Candidate>; nullopt: the two never merge.
  template <typename Lookup>
  void Merge(const Lookup& lookup) {
    for (int32_t i = 1; i < static_cast<int32_t>(symbols_.size()); ++i) Offer(i - 1, i, lookup);
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), IsLater);
      const Entry best = queue_.back();
      queue_.pop_back();
      Symbol& left = symbols_[best.left];
      Symbol& right = symbols_[best.right];
      // Either side has changed since: then its new pairs were offered when it did.
      const bool stale =
          left.length == 0 || right.length == 0 || left.length + right.length != best.length;
      if (stale) continue;
      left.id = best.merged_id;
      left.length = best.length;
      left.next = right.next;
      right.length = 0;
      if (left.next >= 0) symbols_[left.next].previous = best.left;
      if (left.previous >= 0) Offer(left.previous, best.left, lookup);
      if (left.next >= 0) Offer(best.left, left.next, lookup);
    }
  }

  // What is left, in the order of the text.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    if (symbols_.empty()) return;
    for (int32_t i = 0; i >= 0; i = symbols_[i].next) visit(symbols_[i]);
  }

 private:
  struct Entry {
    Priority priority;
    int32_t left, right;
    int32_t merged_id;
    uint32_t length;
  };

  static bool IsLater(const Entry& a, const Entry& b) {
    return a.priority != b.priority ? a.priority > b.priority : a.left > b.left;
  }

  template <typename Lookup>
  void Offer(int32_t left, int32_t right, const Lookup& lookup) {
    const std::optional<Candidate> candidate = lookup(symbols_[left], symbols_[right]);
    if (!candidate) return;
    queue_.push_back({candidate->priority, left, right, candidate->merged_id,
                      symbols_[left].length + symbols_[right].length});
    std::push_heap(queue_.begin(), queue_.end(), IsLater);
  }

  std::vector<Symbol> symbols_;
  std::vector<Entry> queue_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_SYMBOL_MERGER_H_
