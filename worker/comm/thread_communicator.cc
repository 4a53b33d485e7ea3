// Ranks as threads of one process. A group is an object all its ranks share: mailboxes for
// messages, and for collectives one slot per rank that its owner fills before it arrives.
//
// One arrival per collective is enough because slots come in pairs used in turn: a rank can refill
// a slot of the collective before last only after everybody has arrived at the last one, and so
// has finished reading. Contributions are copied into the slot, so a rank that gives up at its
// deadline takes nothing away that a slower one still reads.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "worker/comm/call.h"
#include "worker/comm/communicator.h"
#include "worker/comm/rank_sum.h"

namespace tessera::worker {
namespace {

// What all groups of one world share.
struct World {
  explicit World(const CommunicatorOptions& options_in) : options(options_in) {}

  const CommunicatorOptions options;
  Mutex mu;  // guards what is below and all of every Group but the slots
  CondVar changed;
  absl::Status first_cause ABSL_GUARDED_BY(mu);
};

using Clock = std::chrono::steady_clock;

// A cache line of shared memory.
struct alignas(64) SharedLine {
  std::byte bytes[64] = {};
};

struct Slot {
  const char* operation = "";
  Bytes bytes;
};

struct Group {
  Group(std::shared_ptr<World> world_in, std::vector<int> world_ranks_in)
      : world(std::move(world_in)),
        world_ranks(std::move(world_ranks_in)),
        arrived(world_ranks.size(), false),
        left(world_ranks.size(), false) {
    slots.fill(std::vector<Slot>(world_ranks.size()));
  }

  int size() const { return static_cast<int>(world_ranks.size()); }

  const std::shared_ptr<World> world;
  const std::vector<int> world_ranks;

  // slots[n % 2][r]: rank r's part of collective n. Written by r before it arrives, read by all
  // after everybody has: ordered by the lock that arriving takes.
  std::array<std::vector<Slot>, 2> slots;

  std::vector<std::unique_ptr<SharedLine[]>> shared ABSL_GUARDED_BY(world->mu);
  std::vector<bool> arrived ABSL_GUARDED_BY(world->mu);  // at the current collective
  int arrived_count ABSL_GUARDED_BY(world->mu) = 0;
  Clock::time_point newest_arrival ABSL_GUARDED_BY(world->mu);
  int64_t finished ABSL_GUARDED_BY(world->mu) = 0;    // collectives at which everybody has arrived
  std::vector<bool> left ABSL_GUARDED_BY(world->mu);  // destroyed its communicator
  std::map<std::tuple<int, int, int>, std::deque<Bytes>> mail
      ABSL_GUARDED_BY(world->mu);  // (from, to, tag)
  struct Child {
    std::shared_ptr<Group> group;
    int waiting;  // members that have not taken it yet
  };
  std::map<int, Child> children ABSL_GUARDED_BY(world->mu);  // by color, of the Split in progress
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int group_rank)
      : group_(std::move(group)), rank_(group_rank) {}

  ~ThreadCommunicator() override {
    MutexLock lock(&group_->world->mu);
    group_->left[static_cast<size_t>(rank_)] = true;
    group_->world->changed.SignalAll();
  }

  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }

  absl::Status AllReduceSum(absl::Span<float> data) override { return Reduce(data); }
  absl::Status AllReduceSum(absl::Span<double> data) override { return Reduce(data); }

  absl::Status AllGather(absl::Span<const std::byte> mine, absl::Span<std::byte> all) override {
    const Call call = MakeCall("AllGather", mine.size());
    TESSERA_RETURN_IF_ERROR(Checked(CheckGather(call, mine.size(), all.size(), size())));
    TESSERA_ASSIGN_OR_RETURN(const std::vector<Slot>* slots,
                             Exchange(call, mine, /*equal_lengths=*/true));
    auto out = all.begin();
    for (const Slot& slot : *slots) out = std::copy(slot.bytes.begin(), slot.bytes.end(), out);
    return absl::OkStatus();
  }

  absl::Status Broadcast(int root, Bytes& data) override {
    const Call call = MakeCall("Broadcast", root == rank_ ? data.size() : 0);
    TESSERA_RETURN_IF_ERROR(Checked(CheckPeer(call, root, size())));
    absl::Span<const std::byte> mine(data.data(), call.bytes);
    TESSERA_ASSIGN_OR_RETURN(const std::vector<Slot>* slots,
                             Exchange(call, mine, /*equal_lengths=*/false));
    if (root != rank_) data = (*slots)[static_cast<size_t>(root)].bytes;
    return absl::OkStatus();
  }

  absl::Status Barrier() override {
    return Exchange(MakeCall("Barrier", 0), {}, /*equal_lengths=*/true).status();
  }

  absl::StatusOr<std::vector<std::byte*>> AllocateShared(size_t bytes) override {
    const Call call = MakeCall("AllocateShared", bytes);
    auto piece = std::make_unique<SharedLine[]>(bytes / sizeof(SharedLine) + 1);
    const auto* const begin = reinterpret_cast<std::byte*>(piece.get());
    {
      MutexLock lock(&group_->world->mu);
      group_->shared.push_back(std::move(piece));
    }
    const auto* const words = reinterpret_cast<const std::byte*>(&begin);
    TESSERA_ASSIGN_OR_RETURN(const std::vector<Slot>* slots,
                             Exchange(call, {words, sizeof(begin)}, /*equal_lengths=*/true));
    std::vector<std::byte*> pieces(slots->size());
    for (size_t i = 0; i < pieces.size(); ++i) {
      std::memcpy(&pieces[i], (*slots)[i].bytes.data(), sizeof(pieces[i]));
    }
    return pieces;
  }

  std::chrono::nanoseconds late() const override { return late_; }

  absl::Status Send(int peer, int tag, Bytes data) override {
    TESSERA_RETURN_IF_ERROR(CheckMessage(MakeCall("Send", data.size()), peer, tag));
    MutexLock lock(&group_->world->mu);
    TESSERA_RETURN_IF_ERROR(group_->world->first_cause);
    group_->mail[{rank_, peer, tag}].push_back(std::move(data));
    group_->world->changed.SignalAll();
    return absl::OkStatus();
  }

  absl::StatusOr<Bytes> Receive(int peer, int tag) override {
    const Call call = MakeCall("Receive", 0);
    TESSERA_RETURN_IF_ERROR(CheckMessage(call, peer, tag));
    MutexLock lock(&group_->world->mu);
    std::optional<Bytes> message;
    TESSERA_RETURN_IF_ERROR(WaitUntil(
        call,
        [&] {
          group_->world->mu.AssertHeld();
          message = TakeMail(peer, tag);
          return message.has_value();
        },
        [&] { return peer; }));
    return *std::move(message);
  }

  absl::StatusOr<std::optional<Bytes>> TryReceive(int peer, int tag) override {
    const Call call = MakeCall("TryReceive", 0);
    TESSERA_RETURN_IF_ERROR(CheckMessage(call, peer, tag));
    MutexLock lock(&group_->world->mu);
    TESSERA_RETURN_IF_ERROR(group_->world->first_cause);
    std::optional<Bytes> message = TakeMail(peer, tag);
    if (!message.has_value() && HasLeft(peer)) return Fail(PeerLeft(call, peer));
    return message;
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key) override {
    const Call call = MakeCall("Split", 0);
    TESSERA_RETURN_IF_ERROR(Checked(CheckColor(call, color)));
    const std::array<int, 2> adjustment = {color, key};
    const auto* bytes = reinterpret_cast<const std::byte*>(adjustment.data());
    TESSERA_ASSIGN_OR_RETURN(const std::vector<Slot>* slots,
                             Exchange(call, {bytes, sizeof(adjustment)}, /*equal_lengths=*/true));
    const std::vector<int> members = MembersOf(color, *slots);
    std::shared_ptr<Group> child = TakeChild(color, members);
    const auto me = std::find(members.begin(), members.end(), rank_);
    return std::make_unique<ThreadCommunicator>(std::move(child),
                                                static_cast<int>(me - members.begin()));
  }

 private:
  template <typename T>
  absl::Status Reduce(absl::Span<T> data) {
    const Call call = MakeCall("AllReduceSum", data.size() * sizeof(T));
    const auto* bytes = reinterpret_cast<const std::byte*>(data.data());
    TESSERA_ASSIGN_OR_RETURN(const std::vector<Slot>* slots,
                             Exchange(call, {bytes, call.bytes}, /*equal_lengths=*/true));
    std::vector<const void*> parts;
    for (const Slot& slot : *slots) parts.push_back(slot.bytes.data());
    SumInRankOrder<T>(parts, data);
    return absl::OkStatus();
  }

  int WorldRank(int peer) const { return group_->world_ranks[static_cast<size_t>(peer)]; }

  Call MakeCall(const char* operation, size_t bytes) const {
    return Call{operation, bytes, WorldRank(rank_)};
  }

  // Ends the world, unless it has ended already; what ended it.
  absl::Status Fail(absl::Status cause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->world->mu) {
    if (group_->world->first_cause.ok()) group_->world->first_cause = std::move(cause);
    group_->world->changed.SignalAll();
    return group_->world->first_cause;
  }

  absl::Status Checked(absl::Status status) {
    if (status.ok()) return status;
    MutexLock lock(&group_->world->mu);
    return Fail(std::move(status));
  }

  absl::Status CheckMessage(const Call& call, int peer, int tag) {
    TESSERA_RETURN_IF_ERROR(Checked(CheckPeer(call, peer, size())));
    return Checked(CheckTag(call, tag));
  }

  bool HasLeft(int peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->world->mu) {
    return group_->left[static_cast<size_t>(peer)];
  }

  absl::Status PeerLeft(const Call& call, int peer) const {
    return CallError(call, absl::StatusCode::kUnavailable,
                     absl::StrCat("world rank ", WorldRank(peer), " has left the group"));
  }

  std::optional<Bytes> TakeMail(int peer, int tag)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->world->mu) {
    const auto queue = group_->mail.find({peer, rank_, tag});
    if (queue == group_->mail.end()) return std::nullopt;
    Bytes message = std::move(queue->second.front());
    queue->second.pop_front();
    if (queue->second.empty()) group_->mail.erase(queue);
    return message;
  }

  // Waits for ready(); awaited() is a rank that it still depends on. Both are called with the lock.
  template <typename Ready, typename Awaited>
  absl::Status WaitUntil(const Call& call, Ready ready, Awaited awaited)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->world->mu) {
    const absl::Duration limit = std::min(group_->world->options.deadline, absl::Hours(24));
    const absl::Time expiry = absl::Now() + limit;
    TESSERA_RETURN_IF_ERROR(group_->world->first_cause);
    while (!ready()) {
      TESSERA_RETURN_IF_ERROR(group_->world->first_cause);
      if (HasLeft(awaited())) return Fail(PeerLeft(call, awaited()));
      if (absl::Now() >= expiry) {
        return Fail(NoAnswer(call, WorldRank(awaited()), group_->world->options.deadline));
      }
      group_->world->changed.WaitWithDeadline(&group_->world->mu, expiry);
    }
    return absl::OkStatus();
  }

  // One collective: publishes `mine` and returns what everybody published, once everybody has.
  // Valid until this rank's next collective.
  absl::StatusOr<const std::vector<Slot>*> Exchange(const Call& call,
                                                    absl::Span<const std::byte> mine,
                                                    bool equal_lengths) {
    std::vector<Slot>& slots = group_->slots[static_cast<size_t>(collectives_++ % 2)];
    Slot& own = slots[static_cast<size_t>(rank_)];
    own.operation = call.operation;
    own.bytes.assign(mine.begin(), mine.end());
    TESSERA_RETURN_IF_ERROR(ArriveAndWait(call));
    for (int peer = 0; peer < size(); ++peer) {
      const Slot& other = slots[static_cast<size_t>(peer)];
      if (std::strcmp(other.operation, call.operation) != 0) {
        return Checked(CallError(
            call, absl::StatusCode::kFailedPrecondition,
            absl::StrCat("world rank ", WorldRank(peer), " called ", other.operation, " instead")));
      }
      if (equal_lengths && other.bytes.size() != mine.size()) {
        return Checked(UnequalLengths(call, WorldRank(peer), other.bytes.size()));
      }
    }
    return &slots;
  }

  absl::Status ArriveAndWait(const Call& call) {
    const Clock::time_point arrival = Clock::now();
    MutexLock lock(&group_->world->mu);
    TESSERA_RETURN_IF_ERROR(group_->world->first_cause);
    const int64_t mine = group_->finished;
    group_->arrived[static_cast<size_t>(rank_)] = true;
    const Clock::time_point others = group_->newest_arrival;
    group_->newest_arrival = std::max(others, arrival);
    if (++group_->arrived_count == size()) {
      if (size() > 1 && arrival > others) late_ += arrival - others;
      group_->arrived.assign(group_->arrived.size(), false);
      group_->arrived_count = 0;
      ++group_->finished;
      group_->world->changed.SignalAll();
      return absl::OkStatus();
    }
    return WaitUntil(
        call,
        [&] {
          group_->world->mu.AssertHeld();
          return group_->finished > mine;
        },
        [&] {
          group_->world->mu.AssertHeld();
          return Missing();
        });
  }

  // A rank that has not arrived, preferring one that never will.
  int Missing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_->world->mu) {
    int missing = rank_;
    for (int peer = 0; peer < size(); ++peer) {
      if (group_->arrived[static_cast<size_t>(peer)]) continue;
      missing = peer;
      if (HasLeft(peer)) break;
    }
    return missing;
  }

  // This group's ranks that gave `color`, by key and then by rank.
  static std::vector<int> MembersOf(int color, const std::vector<Slot>& slots) {
    std::vector<std::pair<int, int>> keyed;
    for (size_t peer = 0; peer < slots.size(); ++peer) {
      std::array<int, 2> adjustment;
      std::memcpy(adjustment.data(), slots[peer].bytes.data(), sizeof(adjustment));
      if (adjustment[0] == color) keyed.emplace_back(adjustment[1], static_cast<int>(peer));
    }
    std::sort(keyed.begin(), keyed.end());
    std::vector<int> members;
    members.reserve(keyed.size());
    for (const auto& [key, peer] : keyed) members.push_back(peer);
    return members;
  }

  // The group of `color`, made by whichever member comes first. The last one frees the color: the
  // next Split gets here only after everybody has arrived at it, having taken its group of this.
  std::shared_ptr<Group> TakeChild(int color, const std::vector<int>& members) {
    std::vector<int> world_ranks;
    world_ranks.reserve(members.size());
    for (int member : members) world_ranks.push_back(WorldRank(member));
    MutexLock lock(&group_->world->mu);
    auto [child, made] = group_->children.try_emplace(color);
    if (made) {
      child->second.group = std::make_shared<Group>(group_->world, std::move(world_ranks));
      child->second.waiting = static_cast<int>(members.size());
    }
    std::shared_ptr<Group> group = child->second.group;
    if (--child->second.waiting == 0) group_->children.erase(child);
    return group;
  }

  const std::shared_ptr<Group> group_;
  const int rank_;
  int64_t collectives_ = 0;
  std::chrono::nanoseconds late_{0};
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(
    int size, const CommunicatorOptions& options) {
  std::vector<int> world_ranks(size);
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  auto group = std::make_shared<Group>(std::make_shared<World>(options), world_ranks);
  std::vector<std::unique_ptr<Communicator>> communicators;
  communicators.reserve(world_ranks.size());
  for (int world_rank : world_ranks) {
    communicators.push_back(std::make_unique<ThreadCommunicator>(group, world_rank));
  }
  return communicators;
}

}  // namespace tessera::worker
