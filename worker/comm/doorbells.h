// Ranks of one node that wake each other: whoever has sent a message rings, and the receiver, which
// had given its core to somebody else meanwhile, goes on at once instead of at the end of a nap.
//
// A rank has a word in memory that all of them share; ringing counts it up, sleeping waits for it to
// change (a futex). A ring is never missed: one between two sleeps ends the second at once.
//
// Borrows the memory. Threads: the engine thread.
//
//   if (!Poll()) bells->Sleep(milliseconds(1));    // the receiver
//   bells->Ring(peer);                             // the sender, behind its send
#ifndef TESSERA_WORKER_COMM_DOORBELLS_H_
#define TESSERA_WORKER_COMM_DOORBELLS_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>

namespace tessera::worker {

class Doorbells {
 public:
  // A rank's word. As zeros it is ready for use.
  struct Bell {
    std::atomic<uint32_t> rings;
    std::atomic<uint32_t> sleepers;
  };

  // `bells`: by world rank, of the ranks of this node, `own` among them.
  Doorbells(std::map<int, Bell*> bells, int own);

  // Nothing happens where the rank is not on this node.
  void Ring(int world_rank);

  // Whether a wait ends with a ring and with nothing else: everybody who may send something is on this
  // node, and nothing is on its way in or out that polls would have to drive. Then sleeps may be long.
  bool only_rings() const { return only_rings_; }
  void set_only_rings(bool only_rings) { only_rings_ = only_rings; }

  // Returns when rung since the last Sleep returned, or after that long, or for no reason. Whether
  // it was rung.
  bool Sleep(std::chrono::nanoseconds at_most);

 private:
  const std::map<int, Bell*> bells_;
  Bell& own_;
  uint32_t heard_ = 0;  // of the own rings
  bool only_rings_ = false;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_DOORBELLS_H_
