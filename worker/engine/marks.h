// Which of the numbers 0 .. n-1 were named since the last Clear, which costs nothing.
//
//   Marks named(vocab_size);
//   named.Clear();
//   if (!named.Mark(id)) return TwiceError(id);
#ifndef TESSERA_WORKER_ENGINE_MARKS_H_
#define TESSERA_WORKER_ENGINE_MARKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera::worker {

class Marks {
 public:
  explicit Marks(size_t n) : marked_in_(n, 0) {}

  void Clear() { ++generation_; }
  bool IsMarked(int64_t i) const { return marked_in_[i] == generation_; }
  // False when it was marked already. 0 <= i < n.
  bool Mark(int64_t i) {
    if (IsMarked(i)) return false;
    marked_in_[i] = generation_;
    return true;
  }

 private:
  int64_t generation_ = 1;
  std::vector<int64_t> marked_in_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_MARKS_H_
