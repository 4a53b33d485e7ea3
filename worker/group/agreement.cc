#include "worker/group/agreement.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"
#include "proto/base/status_macros.h"
#include "worker/comm/receive_within.h"

namespace tessera::worker {
namespace {

constexpr int kLeader = 0;
// Far from the engine's own tags; several agreements follow each other in order.
constexpr int kStatusTag = 20001;   // rank → leader
constexpr int kOutcomeTag = 20002;  // leader → rank
constexpr int kTextTag = 20003;     // leader → rank
constexpr absl::Duration kPatienceOfTheFailed = absl::Seconds(1);

Bytes ToBytes(const std::string& text) {
  Bytes bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

std::string ToString(const Bytes& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// code and message of the status; details[0].type_url carries the failed rank's number.
Bytes Encode(const Agreement& agreement) {
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(agreement.status.code()));
  proto.set_message(std::string(agreement.status.message()));
  proto.add_details()->set_type_url(absl::StrCat(agreement.failed_rank));
  return ToBytes(proto.SerializeAsString());
}

absl::StatusOr<Agreement> Decode(const Bytes& bytes) {
  google::rpc::Status proto;
  Agreement agreement;
  if (!proto.ParseFromString(ToString(bytes)) || proto.details_size() != 1 ||
      !absl::SimpleAtoi(proto.details(0).type_url(), &agreement.failed_rank)) {
    return absl::InternalError(absl::StrCat("agreement: ", bytes.size(),
                                            " bytes of another rank are no status"));
  }
  agreement.status = absl::Status(static_cast<absl::StatusCode>(proto.code()), proto.message());
  return agreement;
}

absl::StatusOr<Bytes> Await(Communicator& world, int peer, int tag, absl::Duration timeout) {
  TESSERA_ASSIGN_OR_RETURN(auto message, ReceiveWithin(world, peer, tag, timeout));
  if (message) return *std::move(message);
  return absl::DeadlineExceededError(absl::StrCat("rank ", peer, " did not answer rank ",
                                                  world.rank(), " within ",
                                                  absl::FormatDuration(timeout)));
}

absl::StatusOr<Agreement> Ask(Communicator& world, Agreement outcome, absl::Duration timeout) {
  for (int peer = 1; peer < world.size(); ++peer) {
    TESSERA_ASSIGN_OR_RETURN(Bytes bytes, Await(world, peer, kStatusTag, timeout));
    TESSERA_ASSIGN_OR_RETURN(Agreement theirs, Decode(bytes));
    if (outcome.status.ok() && !theirs.status.ok()) outcome = std::move(theirs);
  }
  for (int peer = 1; peer < world.size(); ++peer) {
    TESSERA_RETURN_IF_ERROR(world.Send(peer, kOutcomeTag, Encode(outcome)));
  }
  return outcome;
}

absl::StatusOr<Agreement> Answer(Communicator& world, const Agreement& mine,
                                 absl::Duration timeout) {
  TESSERA_RETURN_IF_ERROR(world.Send(kLeader, kStatusTag, Encode(mine)));
  TESSERA_ASSIGN_OR_RETURN(Bytes bytes, Await(world, kLeader, kOutcomeTag, timeout));
  return Decode(bytes);
}

}  // namespace

Agreement Agree(Communicator& world, const absl::Status& mine, absl::Duration timeout) {
  const Agreement own{mine, mine.ok() ? -1 : world.rank()};
  if (!mine.ok()) timeout = std::min(timeout, kPatienceOfTheFailed);
  auto outcome = world.rank() == kLeader ? Ask(world, own, timeout) : Answer(world, own, timeout);
  if (outcome.ok()) return *outcome;
  return own.status.ok() ? Agreement{outcome.status(), world.rank()} : own;
}

absl::StatusOr<std::string> FromLeader(Communicator& world, const std::string& text,
                                       absl::Duration timeout) {
  if (world.rank() != kLeader) {
    TESSERA_ASSIGN_OR_RETURN(Bytes bytes, Await(world, kLeader, kTextTag, timeout));
    return ToString(bytes);
  }
  for (int peer = 1; peer < world.size(); ++peer) {
    TESSERA_RETURN_IF_ERROR(world.Send(peer, kTextTag, ToBytes(text)));
  }
  return text;
}

}  // namespace tessera::worker
