// What the scheduler owes its users, in virtual time: the same on every machine and every day.
// Overload is in overload_simulation_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/simulate/simulated_requests.h"
#include "tests/coordinator/simulate/simulation.h"

namespace tessera::testing {
namespace {

using coordinator::FinishCause;
using coordinator::ScheduledRequest;
using coordinator::SchedulerLimits;
using coordinator::SchedulingPolicy;

// ---- fair shares --------------------------------------------------------------------------------

constexpr int kQuietRequests = 21;

// A tenant that asks for something every three seconds: its median TTFT.
absl::Duration QuietTenantsMedian(const SchedulerLimits& limits, int flood) {
  Simulation simulation(limits, kCost);
  for (int i = 0; i < kQuietRequests; ++i) {
    ScheduledRequest request = Request(i, 200, 32);
    request.tenant = "quiet";
    simulation.Submit(absl::Seconds(3) * i + absl::Milliseconds(7 * i), request);
  }
  for (int i = 0; i < flood; ++i) {
    ScheduledRequest request = Request(1000 + i, 200, 128);
    request.tenant = "flooding";
    simulation.Submit(absl::Seconds(1), request);
  }
  EXPECT_EQ(simulation.Run(), absl::OkStatus());
  std::vector<absl::Duration> times;
  for (int i = 0; i < kQuietRequests; ++i) {
    EXPECT_TRUE(simulation.answer(i).answered());
    times.push_back(simulation.answer(i).TimeToFirstToken());
  }
  for (int i = 0; i < flood; ++i) {
    EXPECT_TRUE(simulation.answer(1000 + i).answered()) << i;  // served too, in the end
  }
  // The flood outlasts the quiet tenant's requests, or nothing was tested.
  if (flood > 0) {
    EXPECT_GT(simulation.answer(1000 + flood - 1).ended,
              simulation.answer(kQuietRequests - 1).ended);
  }
  return Median(times);
}

TEST(SchedulerSimulationTest, AFloodOfOneTenantBarelyDelaysAnother) {
  for (const int num_blocks : {4096, 400}) {  // slots run out first; blocks run out first
    SchedulerLimits limits = Limits();
    limits.num_blocks = num_blocks;
    const absl::Duration alone = QuietTenantsMedian(limits, 0);
    const absl::Duration flooded = QuietTenantsMedian(limits, 1000);
    RecordProperty("ratio", std::to_string(absl::FDivDuration(flooded, alone)));
    EXPECT_LE(absl::FDivDuration(flooded, alone), 1.5)
        << "blocks " << num_blocks << ": alone " << alone << ", beside the flood " << flooded;
  }
}

// Times to the first token of a tenant that asks for something as soon as it has its answer, beside
// short answers: those end together, and the next prompts find no decodes to be bounded by. All but
// the longest.
std::vector<absl::Duration> EagerTenantsTimes(int flood) {
  SimulatedCost cost = kCost;
  cost.base = absl::Microseconds(3'600);
  cost.per_decode = absl::Microseconds(700);
  cost.per_prefill = absl::Microseconds(680);
  Simulation simulation(Limits(), cost);
  simulation.Submit(absl::ZeroDuration(), Request(999, 128, 64));  // what steps cost is learned
  for (int i = 0; i < flood; ++i) {
    ScheduledRequest request = Request(1000 + i, 64, 8);
    request.tenant = "flooding";
    simulation.Submit(absl::Seconds(11), request);
  }
  for (int i = 0; i < kQuietRequests; ++i) {
    ScheduledRequest request = Request(i, 64, 16);
    request.tenant = "quiet";
    if (i == 0) {
      simulation.Submit(absl::Seconds(13), request);
    } else {
      simulation.SubmitAfter(i - 1, absl::Milliseconds(1), request);
    }
  }
  EXPECT_EQ(simulation.Run(), absl::OkStatus());
  std::vector<absl::Duration> times;
  for (int i = 0; i < kQuietRequests; ++i) {
    times.push_back(simulation.answer(i).TimeToFirstToken());
  }
  // The flood outlasts it, or nothing was tested.
  if (flood > 0) {
    EXPECT_GT(simulation.answer(1000 + flood - 1).ended,
              simulation.answer(kQuietRequests - 1).ended);
  }
  std::sort(times.begin(), times.end());
  times.pop_back();
  return times;
}

TEST(SchedulerSimulationTest, AFloodOfShortAnswersBarelyDelaysATenantThatComesAgainAtOnce) {
  const std::vector<absl::Duration> alone = EagerTenantsTimes(0);
  const std::vector<absl::Duration> flooded = EagerTenantsTimes(400);
  EXPECT_LE(absl::FDivDuration(Median(flooded), Median(alone)), 1.5);
  EXPECT_LE(absl::FDivDuration(flooded.back(), Median(alone)), 2.0)
      << "alone " << Median(alone) << ", beside the flood " << flooded.back();
}

// ---- long prompts -------------------------------------------------------------------------------

// Gaps of running streams, with a prompt of 4,000 tokens arriving.
void ExpectSmallGapsBesideALongPrompt(const SimulatedCost& cost) {
  Simulation simulation(Limits(), cost);
  constexpr int kStreams = 8;
  for (int i = 0; i < kStreams; ++i) {
    simulation.Submit(absl::Milliseconds(50) * i, Request(i, 32, 2000));
  }
  const absl::Duration arrival = absl::Seconds(3);
  simulation.Submit(arrival, Request(100, 4000, 16));
  EXPECT_EQ(simulation.Run(), absl::OkStatus());

  std::vector<absl::Duration> gaps;
  for (int i = 0; i < kStreams; ++i) {
    const SimulatedAnswer& answer = simulation.answer(i);
    EXPECT_EQ(answer.tokens.size(), 2000u);
    // From when all run until the long one is read.
    for (size_t token = 20; token < answer.token_times.size(); ++token) {
      if (answer.token_times[token] > simulation.answer(100).token_times.front()) break;
      gaps.push_back(answer.token_times[token] - answer.token_times[token - 1]);
    }
    EXPECT_GT(answer.ended, simulation.answer(100).token_times.front());
  }
  const absl::Duration worst = *std::max_element(gaps.begin(), gaps.end());
  const absl::Duration undisturbed = cost.base + kStreams * cost.per_decode;
  EXPECT_LE(absl::FDivDuration(worst, Median(gaps)), 2.5) << worst << ", " << Median(gaps);
  EXPECT_LE(absl::FDivDuration(worst, undisturbed), 2.5) << worst;
  // And the long prompt pays no more than its share of it.
  const absl::Duration alone = 4000 * cost.per_prefill + 4000 * 4001 / 2 * cost.per_attended;
  EXPECT_LE(simulation.answer(100).TimeToFirstToken(), 3 * alone);
}

TEST(SchedulerSimulationTest, ALongPromptDoesNotStallRunningStreams) {
  ExpectSmallGapsBesideALongPrompt(kCost);
}

// At the end of the prompt a token costs nine times what it costs at the beginning.
TEST(SchedulerSimulationTest, NorDoesTheAttentionAtTheEndOfIt) {
  SimulatedCost cost = kCost;
  cost.per_attended = absl::Microseconds(2);
  ExpectSmallGapsBesideALongPrompt(cost);
}

// ---- cancellation -------------------------------------------------------------------------------

TEST(SchedulerSimulationTest, AThousandCancelsFreeAllBlocksWithTheStepsUnderWay) {
  for (const bool lookahead : {false, true}) {
    SchedulerLimits limits = Limits();
    limits.num_blocks = 20'000;
    limits.max_sequences_per_step = 1024;
    limits.max_tokens_per_step = 4096;
    limits.lookahead = lookahead;
    Simulation simulation(limits, kCost);
    for (int i = 0; i < 1000; ++i) simulation.Submit(absl::ZeroDuration(), Request(i, 40, 1000));
    const absl::Duration when = absl::Seconds(300);
    ASSERT_EQ(simulation.RunUntil(when), absl::OkStatus());
    ASSERT_EQ(simulation.stats().running, 1000);
    ASSERT_LT(simulation.stats().blocks_free, limits.num_blocks - 3000);
    const int64_t steps = simulation.steps();
    for (int i = 0; i < 1000; ++i) simulation.Cancel(when, i);
    ASSERT_EQ(simulation.Run(), absl::OkStatus());
    EXPECT_EQ(simulation.stats().blocks_free, limits.num_blocks);
    EXPECT_EQ(simulation.stats().running, 0);
    EXPECT_LE(simulation.steps() - steps, lookahead ? 2 : 1);  // no step was planned any more
  }
}

// ---- keeping the group busy ---------------------------------------------------------------------

// The group's idle time as a fraction of its steps', for eight streams.
double IdleFraction(bool lookahead) {
  SchedulerLimits limits = Limits();
  limits.lookahead = lookahead;
  SimulatedCost cost = kCost;
  cost.one_way = absl::Microseconds(500);
  Simulation simulation(limits, cost);
  for (int i = 0; i < 8; ++i) simulation.Submit(absl::ZeroDuration(), Request(i, 20, 300));
  EXPECT_EQ(simulation.Run(), absl::OkStatus());
  return absl::FDivDuration(simulation.stalled(), simulation.computed());
}

TEST(SchedulerSimulationTest, OneStepAheadTheRoundTripIsHidden) {
  const double ahead = IdleFraction(true);
  const double waiting = IdleFraction(false);
  EXPECT_LE(ahead, 0.02);
  EXPECT_GT(waiting, 0.03);  // 1 ms of 28
}

TEST(SchedulerSimulationTest, StepsInFlightFillThePipeline) {
  std::vector<absl::Duration> durations;
  for (const int in_flight : {1, 2}) {
    SchedulerLimits limits = Limits();
    limits.max_steps_in_flight = in_flight;
    SimulatedCost cost = kCost;
    cost.per_decode = absl::Milliseconds(10);  // what a batch shares is small beside what it costs
    cost.base = absl::Milliseconds(2);
    cost.stages = 2;
    Simulation simulation(limits, cost);
    for (int i = 0; i < 16; ++i) simulation.Submit(absl::ZeroDuration(), Request(i, 20, 100));
    ASSERT_EQ(simulation.Run(), absl::OkStatus());
    durations.push_back(simulation.now());
  }
  EXPECT_GE(absl::FDivDuration(durations[0], durations[1]), 1.7)
      << durations[0] << " " << durations[1];
}

// ---- everything at once -------------------------------------------------------------------------

TEST(SchedulerSimulationTest, WhateverHappensTokensAreRightAndNoBlockIsLost) {
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    SchedulerLimits limits = Limits();
    limits.num_blocks = 60 + below(100);
    limits.block_tokens = 4;
    limits.max_model_len = 0;
    limits.max_tokens_per_step = 48;
    limits.max_sequences_per_step = 12;
    limits.max_steps_in_flight = 1 + below(3);
    limits.lookahead = below(2) == 0;
    limits.policy = below(2) == 0 ? SchedulingPolicy::kPriority : SchedulingPolicy::kFcfs;
    SimulatedCost cost = kCost;
    cost.stages = limits.max_steps_in_flight;
    Simulation simulation(limits, cost);
    for (int64_t id = 0; id < 600; ++id) {
      ScheduledRequest request = Request(below(40), 1 + below(60), 1 + below(40));
      request.id = id;  // prompts repeat: the prefix cache has something to do
      request.tenant = std::string(1, static_cast<char>('a' + below(3)));
      request.priority = below(3);
      request.sampling.set_temperature(1);
      request.sampling.set_seed(static_cast<uint64_t>(below(5)));
      const absl::Duration at = absl::Milliseconds(below(100'000));
      if (below(4) == 0) {
        request.deadline = absl::UnixEpoch() + at + absl::Milliseconds(1 + below(20'000));
      }
      if (below(4) == 0) simulation.Cancel(at + absl::Milliseconds(below(10'000)), id);
      if (below(6) == 0) request.seeds = {1, 2, 3};
      simulation.Submit(at, request);
    }
    ASSERT_EQ(simulation.Run(), absl::OkStatus()) << "seed " << seed;
    EXPECT_EQ(simulation.stats().blocks_free, limits.num_blocks) << "seed " << seed;
    for (const auto& [id, answer] : simulation.answers()) {
      EXPECT_TRUE(!answer.refused.ok() || answer.finished != FinishCause::kNone)
          << "seed " << seed << " request " << id;
    }
  }
}

}  // namespace
}  // namespace tessera::testing
