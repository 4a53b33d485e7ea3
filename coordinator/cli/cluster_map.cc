#include "coordinator/cli/cluster_map.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/plan/shard_planner.h"

namespace tessera::coordinator {
namespace {

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }
std::string OrDash(int number) { return number == 0 ? "-" : absl::StrCat(number); }

}  // namespace

std::string FormatShards(const v1::GroupStatus& group) {
  std::vector<const v1::RankShard*> shards;
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

std::string StateName(v1::GroupStatus::State state) {
  return absl::AsciiStrToLower(v1::GroupStatus::State_Name(state));
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
