// The scheduler's tuned constants: each with its unit, what it trades, and the test or simulation
// it was chosen with, or, where it has none of its own, the one that notices. Whoever changes one
// runs those again; nothing else in the folder is tuned.
//
//   if (now - last_late_ < policy::kOverloadLasts) ...
//
// Where a simulation is named it is one of tests/coordinator/simulate (virtual time, the same every
// run); "claims: x" is that line of benchmarks/serving/claims.sh, on a real machine. What only
// makes the code faster and decides nothing stands with that code (prefetch.h, step.cc), and so do
// bounds on memory and rounding (tenant_queue.cc, step_cost.cc).
#ifndef TESSERA_COORDINATOR_SCHEDULE_SCHEDULING_POLICY_H_
#define TESSERA_COORDINATOR_SCHEDULE_SCHEDULING_POLICY_H_

#include <cstdint>

#include "absl/time/time.h"

namespace tessera::coordinator::policy {

// ---- Batch building (batch_builder.cc, prompt_budget.cc)

// Prompt tokens per step. A prompt beside running streams gets on by so many whatever it costs
// them: more, and its end behind thousands of tokens, where attention makes each several times as
// dear as the first, is a gap in the streams; fewer, and it never ends. Simulation:
// SchedulerSimulationTest.NorDoesTheAttentionAtTheEndOfIt (16 made a gap of 9 steps); claims: long
// prompt.
inline constexpr int kLeastPrefillTokens = 4;

// Steps. Until step costs are known, one in so many has decodes alone, so that their cost can be
// told from that of prompts: rarer learns later, more often delays prompts under load from the
// start. No test of its own; simulation: OverloadSimulationTest, which is under load from the
// start.
inline constexpr int64_t kDecodesOnlyEverySteps = 8;

// Microseconds. Prompts of a step without decodes take at most so long while another tenant is
// active, who may have to wait for the step's end: longer costs that tenant its first token,
// shorter costs everybody what each step costs by itself. Simulation:
// SchedulerSimulationTest.AFloodOfShortAnswersBarelyDelaysATenantThatComesAgainAtOnce; claims:
// fairness.
inline constexpr double kPromptPieceMicros = 20'000;

// Pieces. Prompts that take less than so many in all are not cut: their end is near anyway.
// Simulation: the same flood; PrefillAllowanceTest.PromptsThatAreDoneSoonAreNotCut.
inline constexpr double kFewestPromptPieces = 3;

// A tenant that added a request so recently is expected to come again: until then nobody runs a
// step ahead and prompts are cut for its sake. Longer keeps throughput down for one that has gone.
// Simulation: the same flood, whose quiet tenant comes again at once.
// Test: FairnessTest.NobodyRunsAheadWhileAnotherTenantIsActive.
inline constexpr absl::Duration kTenantActive = absl::Seconds(10);

// Steps per stage. Prompts in n steps occupy p stages for n + p - 1 turns: more steps waste fewer
// of them, and cost more by themselves. Test:
// SchedulerTest.SeveralStagesGetAPromptInPiecesOnceCostsAreKnown; benchmarks/engine, prompts.
inline constexpr int kPromptStepsPerStage = 4;

// Prompt tokens. A product of so many rows is as fast per row on a CPU as any; smaller steps are
// slower per token. Test: the same.
inline constexpr int kFewestTokensToCut = 64;

// Times a step's own cost. So much of prompts makes a step worth what it costs by itself (an
// eighth). Test: StepCostTest.AStepIsWorthItWithEightTimesItsOwnCost,
// PrefillAllowanceTest.ThePiecesAreWorthAStep.
inline constexpr double kWorthAStep = 8;

// ---- Overload and deadline admission (overload_estimator.cc, deadline_admission.cc)

// After a request was late, or turned away for its deadline, the group counts as overloaded for so
// long: shorter lets it swing, longer keeps streams slow after the load has gone.
// Simulation: OverloadSimulationTest.NorDoesItWherePromptsTakeMostOfTheTime; claims: overload.
inline constexpr absl::Duration kOverloadLasts = absl::Seconds(2);

// Times the prefill stretch. Under overload streams bear steps so many times as long: small chunks
// leave the group's time unused, and that costs others their answers.
// Simulation: OverloadSimulationTest.NorDoesItWhereSmallChunksAreDear.
inline constexpr double kOverloadStretch = 4;

// Part of the running requests with a deadline. So many may be too late already: the others do not
// wait for them. More gives up those that could still end in time.
// Simulation: OverloadSimulationTest.NorDoesItWhereStepsTakeUnevenlyLong.
inline constexpr double kGivenUp = 0.1;

// Standard deviations of a sum of steps, added to their mean: more makes fewer requests late, and
// fewer begin. Simulation: OverloadSimulationTest.NorDoesItWhereStepsTakeUnevenlyLong.
inline constexpr double kStepDeviations = 2;

// Part of the time between a request's arrival and its deadline. One with so much left begins
// however late others have been: if those were late with as much, waiting for one with more helps
// nobody. Simulation: OverloadSimulationTest.TenTimesTheLoadLeavesTheGoodput.
inline constexpr double kMostCaution = 0.75;

// Part of a step. While what a step costs by itself is more than this of it, one more sequence that
// shares it is worth it; less keeps slack for when the machine slows down.
// Simulation: OverloadSimulationTest.NorDoesItWhereTheSpeedHalvesAndComesBack.
inline constexpr double kWorthSharing = 0.02;

// One running slot in so many is filled in any case. Simulation: the same.
inline constexpr int kLeastSlotsPart = 4;

// Exponential rates (the weight of the newest value): quicker follows a change of load, slower
// averages out single requests.
// Time between requests that begin. Claims: overload.
// Test: DeadlineTest.OneThatComesTooFarBackInTheQueueIsRefusedAtOnce.
inline constexpr double kBeginIntervalRate = 1.0 / 32;
// Steps' time that a typical prompt takes.
// Simulation: OverloadSimulationTest.NorDoesItWherePromptsTakeMostOfTheTime.
inline constexpr double kPromptRate = 1.0 / 32;
// Tokens of a typical output. Test: DeadlineTest; simulation: OverloadSimulationTest.
inline constexpr double kOutputRate = 0.05;

// Tokens of an output before any has been seen. Only the first requests with deadlines notice.
// Test: OverloadEstimatorTest.AnOutputCutShortSaysOnlyThatOthersMayBeLonger.
inline constexpr double kFirstOutputGuess = 32;

// ---- What a client that is turned away is told (RetryInfo, Retry-After)

// The queue is full: it drains in steps, so soon.
// Test: SchedulerTest.TheQueueIsBounded.
inline constexpr absl::Duration kRetryAfterFullQueue = absl::Seconds(1);
// The queue ahead takes longer than the deadline leaves: by as much, within these bounds. Sooner is
// a hammer, later leaves the group idle.
// Test: DeadlineTest.OneThatComesTooFarBackInTheQueueIsRefusedAtOnce.
inline constexpr absl::Duration kLeastRetryAfter = absl::Seconds(1);
inline constexpr absl::Duration kMostRetryAfter = absl::Seconds(60);

// ---- Latency estimators (latency_estimator.h)

// Exponential rates for the ratio of time taken to time expected; its deviation rises as fast as
// the mean and falls slower: one calm second says little about the next (Jacobson, SIGCOMM 1988).
// Test: RequestLatencyEstimatorTest.
// Simulation: OverloadSimulationTest.TenTimesTheLoadLeavesTheGoodput.
inline constexpr double kLatencyRise = 1.0 / 8;
inline constexpr double kLatencyFall = 1.0 / 64;
// Deviations above the mean that nearly all requests stay below, as TCP's retransmission timer.
inline constexpr double kLatencyDeviations = 4;
// A ratio beyond so much either way says no more.
// Test: RequestLatencyEstimatorTest.OneThatTookForEverIsOnlySoMuch.
inline constexpr double kFurthestLatency = 10;
// The deviation before anything is known: makes the cautious ratio 1.25.
inline constexpr double kFirstLatencyDeviation = 0.0625;
// Steps that the noise of single steps is averaged over: more is surer, fewer follow the machine.
// Test: StepLatencyEstimatorTest.SoonForgetsTheMachineThatWas.
// Simulation: OverloadSimulationTest.NorDoesItWhereStepsTakeUnevenlyLong.
inline constexpr double kRememberedSteps = 256;

// ---- What a step costs (step_cost.cc)

// Steps seen before anything is predicted: fewer fit four coefficients to chance.
// Test: StepCostTest.KnowsNothingAtFirst.
inline constexpr int kFewestStepsToFit = 8;
// What a kind of step says fades by this with every step of that kind, and by the second with every
// step of another, down to one step's worth: hours of decodes must not forget what prompts cost.
// Test: StepCostTest.HoursWithoutPromptsDoNotForgetWhatPromptsCost, NoiseAveragesOut.
inline constexpr double kKeep = 0.97;
inline constexpr double kKeepOthers = 0.998;
inline constexpr double kLeastWeight = 1;
// What it fades by with every step that shows that the machine has changed, and how many errors
// past trust in one direction show it. Test: StepCostTest.AMachineThatGotSlowerIsLearned.
inline constexpr double kKeepChanged = 0.7;
inline constexpr int kChangedStreak = 3;
// Mean relative errors. What lies further off counts less (Huber 1964); the mean is taken for at
// least the second, and follows at the third. Test: StepCostTest.ASingleOutlierChangesLittle,
// AFirstStepThatTookForeverDoesNotCount.
inline constexpr double kFreeDeviations = 3;
inline constexpr double kLeastDeviation = 0.05;
inline constexpr double kDeviationRate = 0.05;
// Relative. Attention counts when it takes the mean square of the relative errors down by so much:
// of chunks that are all alike it could not be told from the tokens.
// Test: StepCostTest.LearnsWhatAttentionCosts, PromptsThatAreAllAlikeSayNothingOfAttention.
inline constexpr double kAttentionPays = 1e-4;

// ---- Turns between tenants (tenant_queue.cc)

// Tokens of a tenant of weight 1 per turn: more makes turns coarser, fewer make more of them per
// step. Simulation: SchedulerSimulationTest.AFloodOfOneTenantBarelyDelaysAnother; claims: fairness.
inline constexpr int kQuantumTokens = 256;

}  // namespace tessera::coordinator::policy

#endif  // TESSERA_COORDINATOR_SCHEDULE_SCHEDULING_POLICY_H_
