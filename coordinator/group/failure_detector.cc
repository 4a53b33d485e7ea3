#include "coordinator/group/failure_detector.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tessera::coordinator {
namespace {

// Times of expected: steps scatter by this much on a machine that has other work, too (the tests'
// hour on a loaded one: 4 at most, but for the first ones).
constexpr double kStepFactor = 8;
// Steps of a group before its costs are believed: page faults, caches and clocks settle meanwhile.
constexpr int64_t kWarmSteps = 16;
// With every step the worst excess fades by this part.
constexpr double kExcessFades = 0.02;
// A check that is later than this was held up, and what came meanwhile may still stand in a queue: it
// is given this part of the timeout to be taken out. Not for ever: a rank that is not heard of after
// so many such checks in a row is gone.
constexpr absl::Duration kHeldUp = absl::Milliseconds(100);
constexpr double kGrace = 0.5;
constexpr int kMostGraces = 3;
constexpr char kSilence[] = "tessera/silence";  // a payload

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.1f s", absl::ToDoubleSeconds(duration));
}

}  // namespace

void FailureDetector::Heard(int world_rank, const std::string& host, absl::Time now) {
  Rank& rank = ranks_[world_rank];
  rank.host = host;
  rank.last = now;
  rank.signs = std::min(rank.signs + 1, 2);
  rank.graces = 0;
}

void FailureDetector::StepSent(int64_t step_id, absl::Duration expected, absl::Time now) {
  steps_.push_back({.id = step_id, .expected = expected, .began = now});
}

void FailureDetector::StepDone(int64_t step_id, absl::Time now) {
  const auto step = std::find_if(steps_.begin(), steps_.end(),
                                 [&](const Step& one) { return one.id == step_id; });
  if (step == steps_.end()) return;
  ++steps_done_;
  if (step == steps_.begin() && step->expected > absl::ZeroDuration()) {
    worst_excess_ += kExcessFades * (1 - worst_excess_);
    worst_excess_ = std::max(worst_excess_,
                             absl::FDivDuration(now - step->began, step->expected));
  }
  steps_.erase(step);
  if (!steps_.empty()) steps_.front().began = std::max(steps_.front().began, now);
}

absl::Duration FailureDetector::Bound(const Step& step) const {
  if (step.expected <= absl::ZeroDuration() || steps_done_ < kWarmSteps) {
    return std::max(options_.unknown_step, options_.timeout);
  }
  // A single outlier far beyond does not make the bound endless.
  const double excess = std::clamp(worst_excess_, 1.0, kStepFactor);
  return options_.timeout + kStepFactor * excess * step.expected;
}

absl::Time FailureDetector::next_check() const {
  absl::Time next = absl::InfiniteFuture();
  if (options_.timeout == absl::InfiniteDuration()) return next;
  for (const auto& [world_rank, rank] : ranks_) {
    if (Counts(rank)) next = std::min(next, rank.last + options_.timeout);
  }
  if (!steps_.empty()) next = std::min(next, steps_.front().began + Bound(steps_.front()));
  return next;
}

absl::Status FailureDetector::Check(absl::Time now) {
  if (options_.timeout == absl::InfiniteDuration()) return absl::OkStatus();
  if (now - due_ > kHeldUp) GiveGrace(now);
  absl::Status alive = CheckRanks(now);
  if (alive.ok()) alive = CheckStep(now);
  due_ = std::max(next_check(), now);
  return alive;
}

void FailureDetector::GiveGrace(absl::Time now) {
  const absl::Duration grace = kGrace * options_.timeout;
  for (auto& [world_rank, rank] : ranks_) {
    if (rank.last + options_.timeout >= now + grace || ++rank.graces > kMostGraces) continue;
    rank.last = now + grace - options_.timeout;
  }
  for (Step& step : steps_) {
    if (step.began + Bound(step) >= now + grace || ++step.graces > kMostGraces) continue;
    step.began = now + grace - Bound(step);
  }
}

absl::Status FailureDetector::CheckRanks(absl::Time now) const {
  std::vector<int> silent;
  std::map<std::string, int> on_host, silent_on_host;
  int counted = 0;
  absl::Duration longest = absl::ZeroDuration();
  for (const auto& [world_rank, rank] : ranks_) {
    if (!Counts(rank)) continue;
    ++counted;
    ++on_host[rank.host];
    if (now - rank.last < options_.timeout) continue;
    silent.push_back(world_rank);
    ++silent_on_host[rank.host];
    longest = std::max(longest, now - rank.last);
  }
  if (silent.empty()) return absl::OkStatus();
  const std::string& host = ranks_.at(silent.front()).host;
  std::string who;
  if (static_cast<int>(silent.size()) == counted && counted > 1) {
    who = absl::StrCat("all ", counted, " ranks have");
  } else if (silent_on_host.size() == 1 && silent.size() > 1 && on_host[host] == silent_on_host[host]) {
    who = absl::StrCat("the ", silent.size(), " ranks on ", host, " have");
  } else {
    who = absl::StrCat("rank ", silent.front(), " on ", host, " has");
  }
  absl::Status silence = absl::UnavailableError(
      absl::StrCat(who, " not been heard of for ", Seconds(longest),
                   ": stopped, or cut off (--failure-timeout)"));
  silence.SetPayload(kSilence, absl::Cord());
  return silence;
}

bool FailureDetector::IsSilence(const absl::Status& failure) {
  return failure.GetPayload(kSilence).has_value();
}

absl::Status FailureDetector::CheckStep(absl::Time now) const {
  if (steps_.empty()) return absl::OkStatus();
  const Step& step = steps_.front();
  const absl::Duration took = now - step.began;
  if (took < Bound(step)) return absl::OkStatus();
  const std::string expected =
      step.expected > absl::ZeroDuration()
          ? absl::StrFormat(" (%.3f s were expected)", absl::ToDoubleSeconds(step.expected))
          : "";
  return absl::DeadlineExceededError(
      absl::StrCat("step ", step.id, " is not back after ", Seconds(took), expected,
                   ", though every rank is alive: one hangs in it"));
}

}  // namespace tessera::coordinator
