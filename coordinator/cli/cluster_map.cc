#include "coordinator/cli/cluster_map.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "coordinator/cli/terminal.h"

namespace tessera::coordinator {
namespace {

// Inclusive, as people count: "0-4 (5)".
std::string Span(const v1::Range& range) {
  const int size = range.end() - range.begin();
  if (size <= 0) return "-";
  if (size == 1) return absl::StrCat(range.begin(), " (1)");
  return absl::StrCat(range.begin(), "-", range.end() - 1, " (", size, ")");
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }
std::string OrDash(int number) { return number == 0 ? "-" : absl::StrCat(number); }

}  // namespace

std::string FormatShards(const v1::GroupStatus& group) {
  std::vector<std::vector<std::string>> rows = {{"rank", "stage", "layers", "query heads",
                                                 "KV heads", "FFN columns", "vocabulary rows",
                                                 "weights MB"}};
  for (const v1::RankStatus& rank : group.ranks()) {
    const v1::RankShard& shard = rank.shard();
    const bool has_vocab = shard.has_embedding() || shard.has_output_head();
    rows.push_back({absl::StrCat(shard.world_rank()), absl::StrCat(shard.pp_stage()),
                    Span(shard.layers()), Span(shard.q_heads()), Span(shard.kv_heads()),
                    Span(shard.ffn()), has_vocab ? Span(shard.vocab()) : "-",
                    Megabytes(shard.weight_bytes())});
  }
  return FormatTable(rows);
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
