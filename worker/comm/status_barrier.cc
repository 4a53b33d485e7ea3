#include "worker/comm/status_barrier.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/message_tags.h"
#include "worker/comm/receive_within.h"

namespace tessera::worker {
namespace {

constexpr int kLeader = 0;
constexpr absl::Duration kPatienceOfTheFailed = absl::Seconds(1);

// What precedes the status's message.
struct Header {
  int32_t code = 0;
  int32_t failed_rank = -1;
};

// message := Header, text
Bytes Encode(const BarrierOutcome& outcome) {
  const Header header{static_cast<int32_t>(outcome.status.code()), outcome.failed_rank};
  const absl::string_view text = outcome.status.message();
  Bytes bytes(sizeof(header) + text.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (!text.empty()) std::memcpy(bytes.data() + sizeof(header), text.data(), text.size());
  return bytes;
}

absl::StatusOr<BarrierOutcome> Decode(const Bytes& bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) {
    return absl::InternalError(
        absl::StrCat("status barrier: ", bytes.size(), " bytes of another rank are no status"));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  const absl::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(header),
                               bytes.size() - sizeof(header));
  return BarrierOutcome{absl::Status(static_cast<absl::StatusCode>(header.code), text),
                        header.failed_rank};
}

// Whether that rank failed because another one did not answer.
bool InVain(const absl::Status& status) {
  return absl::IsDeadlineExceeded(status) || absl::IsAborted(status);
}

class OneBarrier {
 public:
  OneBarrier(Communicator& world, const BarrierOptions& options, absl::Duration deadline)
      : world_(world), options_(options), deadline_(deadline) {}

  BarrierOutcome Lead(BarrierOutcome outcome) {
    for (int peer = 1; peer < world_.size(); ++peer) {
      absl::StatusOr<BarrierOutcome> theirs = Hear(peer, kStatusTag);
      Join(theirs.ok() ? *std::move(theirs) : BarrierOutcome{theirs.status(), kLeader}, outcome);
    }
    for (int peer = 1; peer < world_.size(); ++peer) {
      const absl::Status sent = world_.Send(peer, kOutcomeTag, Encode(outcome));
      if (!sent.ok()) Join({sent, kLeader}, outcome);
    }
    return outcome;
  }

  BarrierOutcome Follow(const BarrierOutcome& mine) {
    absl::StatusOr<BarrierOutcome> outcome = Ask(mine);
    if (outcome.ok()) return *std::move(outcome);
    return mine.status.ok() ? BarrierOutcome{outcome.status(), world_.rank()} : mine;
  }

 private:
  using Clock = std::chrono::steady_clock;

  static void Join(BarrierOutcome theirs, BarrierOutcome& outcome) {
    if (theirs.status.ok()) return;
    const bool counts = outcome.status.ok() || (InVain(outcome.status) && !InVain(theirs.status));
    if (counts) outcome = std::move(theirs);
  }

  absl::StatusOr<BarrierOutcome> Ask(const BarrierOutcome& mine) {
    TESSERA_RETURN_IF_ERROR(world_.Send(kLeader, kStatusTag, Encode(mine)));
    return Hear(kLeader, kOutcomeTag);
  }

  absl::StatusOr<BarrierOutcome> Hear(int peer, int tag) {
    const absl::Duration left = deadline_ - absl::FromChrono(Clock::now() - began_);
    TESSERA_ASSIGN_OR_RETURN(const std::optional<Bytes> bytes,
                             ReceiveWithin(world_, peer, tag, left));
    if (bytes) return Decode(*bytes);
    return absl::DeadlineExceededError(absl::StrCat(
        options_.doing, options_.doing.empty() ? "" : ": ", "rank ", peer, " did not answer rank ",
        world_.rank(), " within ", absl::FormatDuration(deadline_)));
  }

  Communicator& world_;
  const BarrierOptions& options_;
  const absl::Duration deadline_;
  const Clock::time_point began_ = Clock::now();
};

}  // namespace

BarrierOutcome StatusBarrier(Communicator& world, const absl::Status& mine,
                             const BarrierOptions& options) {
  const BarrierOutcome own{mine, mine.ok() ? -1 : world.rank()};
  absl::Duration deadline = options.deadline;
  if (!mine.ok() && options.failed_waits_briefly) {
    deadline = std::min(deadline, kPatienceOfTheFailed);
  }
  OneBarrier barrier(world, options, deadline);
  return world.rank() == kLeader ? barrier.Lead(own) : barrier.Follow(own);
}

}  // namespace tessera::worker
