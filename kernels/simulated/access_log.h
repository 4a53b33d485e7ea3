// Who last wrote and read each two bytes of a memory, and whether the next access races with them.
//
// Time is counted in epochs: every barrier of a block begins a new one, unique over all blocks, and
// within it every warp barrier a new warp epoch. Two threads' accesses are ordered when a barrier
// of their block stands between, or when they are of one warp and one of its barriers does.
//
//   if (const char* wrong = granule.Write(me)) Fail(wrong);
#ifndef TESSERA_KERNELS_SIMULATED_ACCESS_LOG_H_
#define TESSERA_KERNELS_SIMULATED_ACCESS_LOG_H_

#include <cstdint>

namespace tessera::kernels::cuda::simt {

// When and by whom.
struct Moment {
  uint64_t epoch = 0;        // 0: never
  uint64_t first_epoch = 0;  // of the block that runs
  uint32_t warp_epoch = 0;
  int32_t thread = -1;
};

class Granule {
 public:
  // Null, or what is wrong. needs_writer: memory of the block, which holds nothing before.
  const char* Read(const Moment& me, bool needs_writer) {
    if (needs_writer && write_.epoch < me.first_epoch) {
      return "reads shared memory that nobody wrote";
    }
    if (pending_) return "reads before its asynchronous copy was waited for";
    if (write_.epoch != 0 && !Ordered(write_, me)) {
      return "races with another thread's write: no barrier between";
    }
    const bool other_now = read_.epoch != 0 && !Ordered(read_, me);
    if (other_now) {
      read_.thread = read_.epoch == me.epoch && SameWarp(read_.thread, me.thread) ? -2 - Warp(me)
                                                                                   : kManyWarps;
      read_.epoch = me.epoch, read_.warp_epoch = me.warp_epoch;
    } else {
      read_ = {me.epoch, me.warp_epoch, me.thread};
    }
    return nullptr;
  }

  // pending: the bytes arrive later (Arrive).
  const char* Write(const Moment& me, bool pending = false) {
    if (write_.epoch != 0 && !Ordered(write_, me)) {
      return "races with another thread's write: no barrier between";
    }
    if (read_.epoch != 0 && !Ordered(read_, me)) {
      return "races with another thread's read: no barrier between";
    }
    write_ = {me.epoch, me.warp_epoch, me.thread};
    atomic_ = false;
    pending_ = pending;
    return nullptr;
  }

  // An atomic operation: two of them do not race.
  const char* Atomic(const Moment& me) {
    if (write_.epoch < me.first_epoch) return "reads shared memory that nobody wrote";
    if (!Ordered(write_, me) && !atomic_) {
      return "races with another thread's write: no barrier between";
    }
    if (read_.epoch != 0 && !Ordered(read_, me)) {
      return "races with another thread's read: no barrier between";
    }
    write_ = {me.epoch, me.warp_epoch, me.thread};
    atomic_ = true;
    return nullptr;
  }

  void Arrive(const Moment& me) {
    write_ = {me.epoch, me.warp_epoch, me.thread};
    pending_ = false;
  }

  // A new block's memory, or a new launch's.
  void ForgetBefore(uint64_t first_epoch) {
    if (read_.epoch < first_epoch) read_ = {};
    if (write_.epoch < first_epoch) write_ = {}, pending_ = false;
  }

 private:
  struct Access {
    uint64_t epoch = 0;
    uint32_t warp_epoch = 0;
    int32_t thread = -1;  // -2 - w: several lanes of warp w
  };
  static constexpr int32_t kManyWarps = -1;

  static int32_t Warp(const Moment& me) { return me.thread / 32; }
  static bool SameWarp(int32_t other, int32_t thread) {
    if (other == kManyWarps) return false;
    return (other >= 0 ? other / 32 : -2 - other) == thread / 32;
  }
  static bool Ordered(const Access& before, const Moment& me) {
    if (before.epoch < me.first_epoch) return false;  // another block
    if (before.epoch != me.epoch || before.thread == me.thread) return true;
    return SameWarp(before.thread, me.thread) && before.warp_epoch != me.warp_epoch;
  }

  Access write_;
  Access read_;
  bool pending_ = false;
  bool atomic_ = false;  // the last write
};

}  // namespace tessera::kernels::cuda::simt

#endif  // TESSERA_KERNELS_SIMULATED_ACCESS_LOG_H_
