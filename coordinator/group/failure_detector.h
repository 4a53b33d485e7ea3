// Whether a group that serves is still at work: its ranks send a sign of life several times within
// the timeout, idle or not, and its steps come back in the time that they are expected to take. Tells
// apart a rank that is stopped or cut off, a host, the whole group, and a step that hangs although
// every rank is alive.
//
//   - A rank counts from its second sign of life on: what sends none is never missed.
//   - Steps run one after another. A step's time runs from when it was sent, or the step before it
//     came back. It may take kStepFactor times what is expected, times the worst excess seen lately,
//     and the timeout; the first steps, and those of unknown cost, much longer.
//   - A coordinator that was itself held up (stopped, or without a core) has not seen what came
//     meanwhile: when a Check comes late, everybody is given time to be heard after all.
//
// Pure: time is an argument. Not thread-safe; one per group.
//
//   FailureDetector detector({.timeout = absl::Seconds(1)});
//   detector.Heard(/*world_rank=*/2, "node7", now);
//   detector.StepSent(17, absl::Milliseconds(20), now);
//   detector.StepDone(17, now);
//   absl::Status alive = detector.Check(now);      // at next_check() or before
#ifndef TESSERA_COORDINATOR_GROUP_FAILURE_DETECTOR_H_
#define TESSERA_COORDINATOR_GROUP_FAILURE_DETECTOR_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tessera::coordinator {

struct FailureDetectorOptions {
  // From the last sign of life, or beyond what a step may take, until the group is given up.
  // InfiniteDuration: it never is.
  absl::Duration timeout = absl::Seconds(1);
  // A step whose time is not known yet.
  absl::Duration unknown_step = absl::Seconds(60);
};

class FailureDetector {
 public:
  explicit FailureDetector(const FailureDetectorOptions& options) : options_(options) {}

  void Heard(int world_rank, const std::string& host, absl::Time now);
  // `expected`: as learned from other steps; zero: not known.
  void StepSent(int64_t step_id, absl::Duration expected, absl::Time now);
  void StepDone(int64_t step_id, absl::Time now);

  // When Check can next find something; InfiniteFuture: never.
  absl::Time next_check() const;
  // One line that says who is missing (UNAVAILABLE), or which step (DEADLINE_EXCEEDED).
  absl::Status Check(absl::Time now);
  // Of what Check returned: that somebody is missing.
  static bool IsSilence(const absl::Status& failure);

 private:
  struct Rank {
    std::string host;
    int signs = 0;
    int graces = 0;  // since the last one
    absl::Time last;
  };
  struct Step {
    int64_t id = 0;
    absl::Duration expected;
    absl::Time began;  // once it is the oldest
    int graces = 0;
  };

  bool Counts(const Rank& rank) const { return rank.signs >= 2; }
  absl::Duration Bound(const Step& step) const;
  absl::Status CheckRanks(absl::Time now) const;
  absl::Status CheckStep(absl::Time now) const;
  void GiveGrace(absl::Time now);

  const FailureDetectorOptions options_;
  std::map<int, Rank> ranks_;  // by world rank
  std::deque<Step> steps_;     // in flight, oldest first
  int64_t steps_done_ = 0;
  double worst_excess_ = 1;  // took / expected, lately
  absl::Time due_ = absl::InfiniteFuture();  // the check that was asked for last
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_FAILURE_DETECTOR_H_
