// A set of numbers 0 .. n-1 whose Clear costs nothing: a number is in it when its stamp is today's.
//
//   StampedSet named(vocab_size);
//   named.Clear();
//   if (!named.Insert(id)) return TwiceError(id);
#ifndef TESSERA_WORKER_ENGINE_STAMPED_SET_H_
#define TESSERA_WORKER_ENGINE_STAMPED_SET_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera::worker {

class StampedSet {
 public:
  explicit StampedSet(size_t n) : stamps_(n, 0) {}

  void Clear() { ++generation_; }
  bool Contains(int64_t i) const { return stamps_[i] == generation_; }
  // False when it was in the set already. 0 <= i < n.
  bool Insert(int64_t i) {
    if (Contains(i)) return false;
    stamps_[i] = generation_;
    return true;
  }

 private:
  int64_t generation_ = 1;
  std::vector<int64_t> stamps_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STAMPED_SET_H_
