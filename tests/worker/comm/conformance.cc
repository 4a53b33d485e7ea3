#include "tests/worker/comm/conformance.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "worker/comm/backoff.h"

namespace tessera::worker {
namespace {

// 100,000 floats are reduced in slices by MPI, the others whole; through shared memory 100,000 and
// 65,537 need more than one slot.
constexpr size_t kLengths[] = {0,    1,    2,    3,    5,    575,   576,  577,
                               4096, 4097, 8191, 8192, 8193, 65537, 100000};

#define ASSERT_STATUS_OK(expression)                              \
  do {                                                            \
    const absl::Status status_of_call = (expression);             \
    ASSERT_TRUE(status_of_call.ok()) << status_of_call.ToString(); \
  } while (false)

// Bytes that depend on seed and place, with a prime period: no multiple of it is a buffer's size.
Bytes Pattern(size_t length, int seed) {
  constexpr size_t kPeriod = 4099;
  Bytes tile(kPeriod);
  for (size_t i = 0; i < kPeriod; ++i) {
    tile[i] = static_cast<std::byte>((i * 31 + static_cast<size_t>(seed) * 17 + (i >> 8)) & 0xff);
  }
  Bytes bytes(length);
  for (size_t begin = 0; begin < length; begin += kPeriod) {
    std::memcpy(bytes.data() + begin, tile.data(), std::min(kPeriod, length - begin));
  }
  return bytes;
}

bool SameBytes(const Bytes& a, const Bytes& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// The answer must be a message equal to `expected`.
void ExpectMessage(const absl::StatusOr<Bytes>& received, const Bytes& expected) {
  ASSERT_TRUE(received.ok()) << received.status().ToString();
  EXPECT_EQ(received->size(), expected.size());
  EXPECT_TRUE(SameBytes(*received, expected));
}

// A small integer that depends on rank and place: sums of these are exact in float.
float ExactPart(int world_rank, size_t i) {
  return static_cast<float>((static_cast<size_t>(world_rank) * 7 + i) % 1021) - 510.0f;
}

template <typename T>
void SumsExactly(Communicator& world) {
  for (size_t length : kLengths) {
    SCOPED_TRACE(absl::StrCat("length ", length));
    std::vector<T> data(length);
    std::vector<T> expected(length, 0);
    for (size_t i = 0; i < length; ++i) {
      data[i] = ExactPart(world.rank(), i);
      for (int r = 0; r < world.size(); ++r) expected[i] += ExactPart(r, i);
    }
    ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(data)));
    EXPECT_TRUE(data == expected);
  }
}

// Values whose sum depends on the order: 1e8 swallows a 1 that is added to it.
float OrderedPart(int world_rank, size_t i) {
  constexpr float kValues[] = {1e8f, 1.0f, -1e8f, 1.0f, 3e-3f, -0.0f, 7.25f};
  return kValues[(static_cast<size_t>(world_rank) * 3 + i) % std::size(kValues)];
}

template <typename T>
void SumsInRankOrderBitForBit(Communicator& world) {
  for (size_t length : kLengths) {
    SCOPED_TRACE(absl::StrCat("length ", length));
    std::vector<T> data(length);
    std::vector<T> expected(length);
    for (size_t i = 0; i < length; ++i) {
      data[i] = OrderedPart(world.rank(), i);
      expected[i] = OrderedPart(0, i);
      for (int r = 1; r < world.size(); ++r) expected[i] += T{OrderedPart(r, i)};
    }
    ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(data)));
    EXPECT_EQ(length == 0 ? 0 : std::memcmp(data.data(), expected.data(), length * sizeof(T)),
              0);
  }
}

// The element must not know how long the vector is that it travels in.
template <typename T>
void SumDoesNotDependOnLength(Communicator& world) {
  std::vector<T> all(100000);
  for (size_t i = 0; i < all.size(); ++i) all[i] = OrderedPart(world.rank(), i);
  std::vector<T> pieces = all;
  ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(all)));
  for (size_t begin = 0; begin < pieces.size(); begin += 577) {
    ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(pieces).subspan(begin, 577)));
  }
  EXPECT_EQ(std::memcmp(all.data(), pieces.data(), all.size() * sizeof(T)), 0);
}

void GathersInRankOrder(Communicator& world) {
  for (size_t length : kLengths) {
    SCOPED_TRACE(absl::StrCat("length ", length));
    const Bytes mine = Pattern(length, world.rank());
    Bytes all(length * static_cast<size_t>(world.size()));
    Bytes expected;
    for (int r = 0; r < world.size(); ++r) {
      const Bytes theirs = Pattern(length, r);
      expected.insert(expected.end(), theirs.begin(), theirs.end());
    }
    ASSERT_STATUS_OK(world.AllGather(mine, absl::MakeSpan(all)));
    EXPECT_TRUE(SameBytes(all, expected));
  }
}

void BroadcastsFromEveryRoot(Communicator& world) {
  for (int root = 0; root < world.size(); ++root) {
    for (size_t length : kLengths) {
      SCOPED_TRACE(absl::StrCat("root ", root, ", length ", length));
      const Bytes expected = Pattern(length, root + 100);
      // What the others pass in has another size and must not matter.
      Bytes data = world.rank() == root ? expected : Pattern(37, world.rank());
      ASSERT_STATUS_OK(world.Broadcast(root, data));
      EXPECT_TRUE(SameBytes(data, expected));
    }
  }
}

void MessagesOfOnePeerAndTagKeepTheirOrder(Communicator& world) {
  constexpr int kMessages = 50;
  for (int peer = 0; peer < world.size(); ++peer) {
    for (int i = 0; i < kMessages; ++i) {
      for (int tag : {0, 7, 32767}) {
        const auto length = static_cast<size_t>(i * i * (tag == 7 ? 5 : 1));
        ASSERT_STATUS_OK(world.Send(peer, tag, Pattern(length, world.rank() + tag + i)));
      }
    }
  }
  // The tags are emptied one after the other although they were sent interleaved.
  for (int peer = world.size() - 1; peer >= 0; --peer) {
    for (int tag : {32767, 7, 0}) {
      for (int i = 0; i < kMessages; ++i) {
        const auto length = static_cast<size_t>(i * i * (tag == 7 ? 5 : 1));
        ExpectMessage(world.Receive(peer, tag), Pattern(length, peer + tag + i));
      }
    }
  }
}

void BigMessagesBothWaysDoNotDeadlock(Communicator& world) {
  constexpr size_t kLength = 10'000'000;
  for (int peer = 0; peer < world.size(); ++peer) {
    ASSERT_STATUS_OK(world.Send(peer, 1, Pattern(kLength, world.rank())));
  }
  for (int peer = 0; peer < world.size(); ++peer) {
    ExpectMessage(world.Receive(peer, 1), Pattern(kLength, peer));
  }
}

void CollectivesPassPendingMessages(Communicator& world) {
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  ASSERT_STATUS_OK(world.Send(next, 0, Pattern(1'000'000, world.rank())));
  std::vector<float> data(576, 1.0f);
  ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(data)));
  EXPECT_EQ(data[575], static_cast<float>(world.size()));
  ExpectMessage(world.Receive(previous, 0), Pattern(1'000'000, previous));
}

// The others come to the sum only after they have received what rank 0 sent: it must move on while
// rank 0 already waits in the sum.
void WaitingInACollectiveDrivesSends(Communicator& world) {
  constexpr size_t kLength = 3'000'000;
  if (world.rank() == 0) {
    for (int peer = 1; peer < world.size(); ++peer) {
      ASSERT_STATUS_OK(world.Send(peer, 4, Pattern(kLength, peer)));
    }
  } else {
    ExpectMessage(world.Receive(0, 4), Pattern(kLength, world.rank()));
  }
  for (size_t length : {size_t{576}, size_t{100000}}) {
    std::vector<float> data(length, 1.0f);
    ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(data)));
    EXPECT_EQ(data[length - 1], static_cast<float>(world.size()));
  }
}

// Short and long sums, gathers and barriers in turn: what one leaves behind must not reach the next.
void CollectivesFollowEachOther(Communicator& world) {
  for (int round = 0; round < 30; ++round) {
    for (size_t length : {size_t{3}, size_t{70000}, size_t{576}, size_t{20000}}) {
      std::vector<float> data(length);
      for (size_t i = 0; i < length; ++i) data[i] = ExactPart(world.rank() + round, i);
      ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(data)));
      for (size_t i : {size_t{0}, length / 2, length - 1}) {
        float expected = 0;
        for (int r = 0; r < world.size(); ++r) expected += ExactPart(r + round, i);
        ASSERT_EQ(data[i], expected) << "round " << round << ", length " << length << ", at " << i;
      }
      const Bytes mine = Pattern(length, world.rank() + round);
      Bytes all(length * static_cast<size_t>(world.size()));
      ASSERT_STATUS_OK(world.AllGather(mine, absl::MakeSpan(all)));
      const auto last = static_cast<ptrdiff_t>(length * static_cast<size_t>(world.size() - 1));
      ASSERT_TRUE(SameBytes(Bytes(all.begin() + last, all.end()),
                            Pattern(length, world.size() - 1 + round)));
    }
    if (round % 3 == 0) ASSERT_STATUS_OK(world.Barrier());
  }
}

void TryReceiveDoesNotWait(Communicator& world) {
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  absl::StatusOr<std::optional<Bytes>> message = world.TryReceive(previous, 3);
  ASSERT_TRUE(message.ok()) << message.status().ToString();
  EXPECT_FALSE(message->has_value());
  // Nobody sends before everybody has looked.
  ASSERT_STATUS_OK(world.Barrier());
  for (size_t length : {size_t{0}, size_t{100}, size_t{3'000'000}}) {
    ASSERT_STATUS_OK(world.Send(next, 3, Pattern(length, world.rank())));
    Backoff backoff;
    while (true) {
      message = world.TryReceive(previous, 3);
      ASSERT_TRUE(message.ok()) << message.status().ToString();
      if (message->has_value()) break;
      backoff.Wait();
    }
    EXPECT_TRUE(SameBytes(**message, Pattern(length, previous)));
  }
  message = world.TryReceive(previous, 3);
  ASSERT_TRUE(message.ok()) << message.status().ToString();
  EXPECT_FALSE(message->has_value());
  // Nobody goes on to the next case, and sends, before everybody has looked again.
  ASSERT_STATUS_OK(world.Barrier());
}

// After a barrier, what was sent before it by anybody has been sent.
void BarrierWaitsForEverybody(Communicator& world) {
  for (int round = 0; round < 20; ++round) {
    ASSERT_STATUS_OK(world.Barrier());
    std::vector<float> data = {static_cast<float>(round)};
    ASSERT_STATUS_OK(world.AllReduceSum(absl::MakeSpan(data)));
    EXPECT_EQ(data[0], static_cast<float>(round * world.size()));
  }
}

void SplitsByColorAndOrdersByKey(Communicator& world) {
  constexpr int kColors[] = {5, 1, 5, 77, 1, 5, 1000000};
  const int color = kColors[world.rank()];
  // Backwards: the highest world rank of a color comes first.
  absl::StatusOr<std::unique_ptr<Communicator>> part = world.Split(color, -world.rank());
  ASSERT_TRUE(part.ok()) << part.status().ToString();
  std::vector<int> members;
  for (int r = world.size() - 1; r >= 0; --r) {
    if (kColors[r] == color) members.push_back(r);
  }
  ASSERT_EQ((*part)->size(), static_cast<int>(members.size()));
  ASSERT_EQ(members[static_cast<size_t>((*part)->rank())], world.rank());

  // Order of the sum is the order in the part, 0 to size-1.
  std::vector<float> data = {OrderedPart(world.rank(), 0)};
  float expected = OrderedPart(members[0], 0);
  for (size_t i = 1; i < members.size(); ++i) expected += OrderedPart(members[i], 0);
  ASSERT_STATUS_OK((*part)->AllReduceSum(absl::MakeSpan(data)));
  EXPECT_EQ(data[0], expected);

  // The same peer and tag mean another message in another communicator.
  const int self_in_part = (*part)->rank();
  ASSERT_STATUS_OK(world.Send(world.rank(), 9, Pattern(10, 1)));
  ASSERT_STATUS_OK((*part)->Send(self_in_part, 9, Pattern(20, 2)));
  ExpectMessage((*part)->Receive(self_in_part, 9), Pattern(20, 2));
  ExpectMessage(world.Receive(world.rank(), 9), Pattern(10, 1));
}

void SplitsAgainAndAgain(Communicator& world) {
  for (int round = 0; round < 5; ++round) {
    absl::StatusOr<std::unique_ptr<Communicator>> half =
        world.Split((world.rank() + round) % 2, world.rank());
    ASSERT_TRUE(half.ok()) << half.status().ToString();
    absl::StatusOr<std::unique_ptr<Communicator>> alone = (*half)->Split((*half)->rank(), 0);
    ASSERT_TRUE(alone.ok()) << alone.status().ToString();
    EXPECT_EQ((*alone)->size(), 1);
    std::vector<float> data = {1.0f};
    ASSERT_STATUS_OK((*half)->AllReduceSum(absl::MakeSpan(data)));
    EXPECT_EQ(data[0], static_cast<float>((*half)->size()));
    ASSERT_STATUS_OK((*alone)->AllReduceSum(absl::MakeSpan(data)));
    EXPECT_EQ(data[0], static_cast<float>((*half)->size()));
    // All of `half` are done with it before the first one destroys it.
    ASSERT_STATUS_OK(world.Barrier());
  }
}

// What every rank writes into its piece, and into its place in another's, all of them read.
void SharedMemoryIsReadByAll(Communicator& world) {
  const auto size = static_cast<size_t>(world.size());
  const auto rank = static_cast<size_t>(world.rank());
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{70001}}) {
    absl::StatusOr<std::vector<std::byte*>> pieces = world.AllocateShared(bytes);
    ASSERT_TRUE(pieces.ok()) << pieces.status().ToString();
    if (pieces->empty()) return;
    ASSERT_EQ(pieces->size(), size);
    const Bytes zeros(bytes);
    EXPECT_EQ(std::memcmp((*pieces)[rank], zeros.data(), bytes), 0);
    const Bytes own = Pattern(bytes, world.rank());
    std::memcpy((*pieces)[rank], own.data(), bytes);
    ASSERT_STATUS_OK(world.Barrier());
    for (size_t peer = 0; peer < size; ++peer) {
      const Bytes expected = Pattern(bytes, static_cast<int>(peer));
      EXPECT_EQ(std::memcmp((*pieces)[peer], expected.data(), bytes), 0) << "of rank " << peer;
    }
    ASSERT_STATUS_OK(world.Barrier());
    for (size_t i = rank; i < bytes; i += size) (*pieces)[0][i] = static_cast<std::byte>(rank);
    ASSERT_STATUS_OK(world.Barrier());
    for (size_t i = 0; i < bytes; ++i) {
      ASSERT_EQ((*pieces)[0][i], static_cast<std::byte>(i % size)) << "at " << i;
    }
    ASSERT_STATUS_OK(world.Barrier());
  }
}

// The last rank comes late again and again. Where lateness is known at all, that rank has the most.
void LatenessIsThatOfTheLastToCome(Communicator& world) {
  constexpr int kTimes = 10;
  constexpr std::chrono::milliseconds kLate(10);
  const std::chrono::nanoseconds before = world.late();
  for (int i = 0; i < kTimes; ++i) {
    ASSERT_STATUS_OK(world.Barrier());
    if (world.rank() == world.size() - 1) std::this_thread::sleep_for(kLate);
    ASSERT_STATUS_OK(world.Barrier());
  }
  const int64_t mine = std::chrono::nanoseconds(world.late() - before).count();
  std::vector<int64_t> all(static_cast<size_t>(world.size()));
  ASSERT_STATUS_OK(world.AllGather(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&mine), sizeof(mine)),
      absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * sizeof(mine))));
  if (world.size() == 1 || *std::max_element(all.begin(), all.end()) == 0) return;
  EXPECT_GT(all.back(), std::chrono::nanoseconds(kTimes * kLate).count() / 2);
  EXPECT_EQ(*std::max_element(all.begin(), all.end()), all.back());
}

}  // namespace

const std::vector<ConformanceCase>& ConformanceCases() {
  static const std::vector<ConformanceCase> cases = {
      {"SumsExactly", SumsExactly<float>},
      {"SumsExactlyInDouble", SumsExactly<double>},
      {"SumsInRankOrderBitForBit", SumsInRankOrderBitForBit<float>},
      {"SumsInRankOrderBitForBitInDouble", SumsInRankOrderBitForBit<double>},
      {"SumDoesNotDependOnLength", SumDoesNotDependOnLength<float>},
      {"SumDoesNotDependOnLengthInDouble", SumDoesNotDependOnLength<double>},
      {"GathersInRankOrder", GathersInRankOrder},
      {"BroadcastsFromEveryRoot", BroadcastsFromEveryRoot},
      {"MessagesOfOnePeerAndTagKeepTheirOrder", MessagesOfOnePeerAndTagKeepTheirOrder},
      {"BigMessagesBothWaysDoNotDeadlock", BigMessagesBothWaysDoNotDeadlock},
      {"CollectivesPassPendingMessages", CollectivesPassPendingMessages},
      {"WaitingInACollectiveDrivesSends", WaitingInACollectiveDrivesSends},
      {"CollectivesFollowEachOther", CollectivesFollowEachOther},
      {"TryReceiveDoesNotWait", TryReceiveDoesNotWait},
      {"BarrierWaitsForEverybody", BarrierWaitsForEverybody},
      {"SharedMemoryIsReadByAll", SharedMemoryIsReadByAll},
      {"LatenessIsThatOfTheLastToCome", LatenessIsThatOfTheLastToCome},
      {"SplitsByColorAndOrdersByKey", SplitsByColorAndOrdersByKey},
      {"SplitsAgainAndAgain", SplitsAgainAndAgain},
  };
  return cases;
}

}  // namespace tessera::worker
