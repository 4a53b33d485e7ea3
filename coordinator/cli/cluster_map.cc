#include "coordinator/cli/cluster_map.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/plan/format_plan.h"

namespace tessera::coordinator {
namespace {

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }
std::string OrDash(int number) { return number == 0 ? "-" : absl::StrCat(number); }

// Above this a rank is called slow. Uneven splits (5 heads beside 4) stay below.
constexpr double kSlowFactor = 1.5;

// A rank is called late from this part of its steps' time on, if it is twice as late as the others.
constexpr double kLatePart = 0.2;
constexpr int kLateFactor = 2;

// The part of the rank's steps in which the others of its stage waited for it alone; 0 unless that
// makes it the slow one.
double IsLateFor(const v1::GroupStatus& group, const v1::RankStatus& rank) {
  const v1::RankTimes& times = rank.step_times();
  for (const v1::RankStatus& other : group.ranks()) {
    if (other.shard().pp_stage() != rank.shard().pp_stage()) continue;
    if (other.shard().tp_rank() == rank.shard().tp_rank()) continue;
    if (times.late_micros() < kLateFactor * other.step_times().late_micros()) return 0;
  }
  const int64_t in_steps =
      times.computing_micros() + times.waiting_micros() + times.transferring_micros();
  const double part = static_cast<double>(times.late_micros()) / std::max<int64_t>(in_steps, 1);
  return part < kLatePart ? 0 : part;
}

// The rank's computing time over the mean of the other ranks of its stage; 0 when it has none.
double ComputesLonger(const v1::GroupStatus& group, const v1::RankStatus& rank) {
  int64_t others = 0, micros = 0;
  for (const v1::RankStatus& other : group.ranks()) {
    if (other.shard().pp_stage() != rank.shard().pp_stage()) continue;
    if (other.shard().tp_rank() == rank.shard().tp_rank()) continue;
    ++others;
    micros += other.step_times().computing_micros();
  }
  if (micros == 0) return 0;
  return static_cast<double>(rank.step_times().computing_micros()) * others / micros;
}

}  // namespace

std::string FormatShards(const v1::GroupStatus& group) {
  std::vector<const v1::RankPart*> shards;
  for (const v1::RankStatus& rank : group.ranks()) shards.push_back(&rank.shard());
  return FormatShards(shards);
}

std::string FormatProcesses(const v1::GroupStatus& group) {
  std::vector<std::vector<std::string>> rows = {
      {"rank", "host", "pid", "health port", "device", "loaded MB", "shard MB", "load peak MB"}};
  for (const v1::RankStatus& rank : group.ranks()) {
    const int64_t peak = rank.peak_rss_bytes() - rank.rss_before_load_bytes();
    rows.push_back({absl::StrCat(rank.shard().world_rank()), OrDash(rank.host()),
                    OrDash(rank.pid()), OrDash(rank.health_port()), OrDash(rank.device()),
                    Megabytes(rank.bytes_loaded()), Megabytes(rank.shard().weight_bytes()),
                    rank.peak_rss_bytes() > 0 ? Megabytes(std::max<int64_t>(peak, 0)) : "-"});
  }
  return FormatTable(rows);
}

std::string FormatStepTimes(const v1::GroupStatus& group) {
  std::vector<std::vector<std::string>> rows = {{"rank", "steps", "computing ms/step",
                                                 "waiting ms/step", "transferring ms/step",
                                                 "late ms/step", "idle %"}};
  std::string slow;
  for (const v1::RankStatus& rank : group.ranks()) {
    const v1::RankTimes& times = rank.step_times();
    if (times.steps() == 0) continue;
    const auto per_step = [&](int64_t micros) {
      return absl::StrFormat("%.3f", static_cast<double>(micros) / 1e3 / times.steps());
    };
    const int64_t one = 1;
    const int64_t all = times.computing_micros() + times.waiting_micros() +
                        times.transferring_micros() + times.idle_micros();
    rows.push_back({absl::StrCat(rank.shard().world_rank()), absl::StrCat(times.steps()),
                    per_step(times.computing_micros()), per_step(times.waiting_micros()),
                    per_step(times.transferring_micros()), per_step(times.late_micros()),
                    absl::StrFormat("%.1f", 100.0 * times.idle_micros() / std::max(all, one))});
    if (const double part = IsLateFor(group, rank); part > 0) {
      absl::StrAppendFormat(&slow,
                            "rank %d kept the others of its stage waiting for %.0f %% of its "
                            "steps' time: it slows the group\n",
                            rank.shard().world_rank(), 100 * part);
      continue;
    }
    const double factor = ComputesLonger(group, rank);
    if (factor < kSlowFactor) continue;
    absl::StrAppendFormat(&slow,
                          "rank %d computes %.1f times as long as the others of its stage: it slows "
                          "the group\n",
                          rank.shard().world_rank(), factor);
  }
  return rows.size() == 1 ? "" : FormatTable(rows) + slow;
}

std::string StateName(v1::GroupStatus::State state) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::GroupStatus::State_Name(state), "STATE_"));
}

LoadProgress ProgressOf(const v1::GroupStatus& group) {
  LoadProgress progress;
  for (const v1::RankStatus& rank : group.ranks()) {
    progress.bytes_loaded += std::min(rank.bytes_loaded(), rank.bytes_total());
    progress.bytes_total += rank.bytes_total();
  }
  return progress;
}

}  // namespace tessera::coordinator
