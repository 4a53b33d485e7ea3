// What a rank does between loading and the end: the leader's loop and everyone else's.
//
// Both return OK after an orderly end; any other status means that the group is dead. Threads: the
// engine thread. All arguments are borrowed for the call.
#ifndef TESSERA_WORKER_ENGINE_SERVE_LOOPS_H_
#define TESSERA_WORKER_ENGINE_SERVE_LOOPS_H_

#include "absl/status/status.h"
#include "worker/engine/pipeline_links.h"
#include "worker/engine/rank_engine.h"
#include "worker/engine/step_runner.h"

namespace tessera::worker {

// World rank 0: takes plans from the channel, keeps up to links.stages() of them in flight, and
// hands results back in the order of the plans. A plan that continues from a token still being
// sampled (recent_steps.h) begins once that step's result has been handed back; plans begin in the
// order they came. The coordinator may send one plan more than there are stages: it waits in the
// channel.
//
// A stage with async scheduling (step_runner.h) takes it: a plan that only decodes is put on the
// devices behind the step that is running there. Any other waits until they have nothing to do.
//
// StepResult.compute_micros runs from the start of the step's work (of one behind another: from
// that one's result) to its result. stall_micros is how long before it the leader had room for a
// step and looked into an empty channel: the round trip that was not hidden. Waiting for room or
// for a token does not count, nor does an idle group: 0 when no step was in flight and the plan
// goes on with no sequence of the recent steps, or when the wait was longer than
// options.longest_stall.
absl::Status ServeAsLeader(StepRunner& runner, PipelineLinks& links, StepChannel& channel,
                           const RankEngineOptions& options);

// All others: run what comes from the stage before and pass it on, until told to end. What is to be
// enqueued is, and its samples are taken while this rank listens on; it waits only where the device
// holds no more, or must be idle for what comes next: as patiently as the leader.
absl::Status ServeAsFollower(StepRunner& runner, PipelineLinks& links,
                             const RankEngineOptions& options);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_SERVE_LOOPS_H_
