#include "coordinator/plan/format_plan.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/plan/rank_part.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kColumns = 9;
using Row = std::array<std::string, kColumns>;

constexpr double kBytesPerMb = 1e6;
constexpr int64_t kTokensShown = 1'000;

std::string Mb(int64_t bytes) {
  return absl::StrFormat("%.1f", static_cast<double>(bytes) / kBytesPerMb);
}

// Inclusive, as people count: "0-4 (5)".
std::string Span(const v1::IndexRange& range) {
  const int size = range.end() - range.begin();
  if (size <= 0) return "-";
  if (size == 1) return absl::StrCat(range.begin(), " (1)");
  return absl::StrCat(range.begin(), "-", range.end() - 1, " (", size, ")");
}

// What differs between kinds of layer, in their order; what does not, once.
template <typename Kinds, typename Text>
std::string EachKind(const Kinds& kinds, Text text_of) {
  std::vector<std::string> texts;
  bool same = true;
  for (const auto& kind : kinds) {
    texts.push_back(text_of(kind));
    same = same && texts.back() == texts.front();
  }
  if (same && !texts.empty()) texts.resize(1);
  return absl::StrJoin(texts, " / ");
}

Row Heading() {
  return {"rank",        "stage",           "layers",     "query heads",      "KV heads",
          "FFN columns", "vocabulary rows", "weights MB", "KV MB/1000 tokens"};
}

Row RankRow(const v1::RankPart& shard) {
  const bool has_vocab = shard.has_embedding() || shard.has_output_head();
  return {absl::StrCat(shard.world_rank()),
          absl::StrCat(shard.pp_stage()),
          Span(shard.layers()),
          EachKind(shard.kinds(), [](const v1::LayerPart& kind) { return Span(kind.q_heads()); }),
          EachKind(shard.kinds(), [](const v1::LayerPart& kind) { return Span(kind.kv_heads()); }),
          EachKind(shard.kinds(), [](const v1::LayerPart& kind) { return Span(kind.ffn()); }),
          has_vocab ? Span(shard.vocab()) : "-",
          Mb(shard.weight_bytes()),
          Mb(shard.kv_bytes_per_token() * kTokensShown)};
}

Row TotalRow(const v1::Architecture& arch, const v1::ShardPlan& plan) {
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  for (const v1::RankShard& shard : plan.ranks()) {
    weight_bytes += shard.weight_bytes();
    kv_bytes += shard.kv_bytes_per_token();
  }
  const auto total = [&](auto number_of) {
    return EachKind(arch.layer_kinds(), [&](const v1::LayerConfig& kind) {
      return absl::StrCat(number_of(kind));
    });
  };
  return {"total",
          "",
          absl::StrCat(arch.num_layers()),
          total([](const v1::LayerConfig& kind) { return kind.attention().num_heads(); }),
          total([](const v1::LayerConfig& kind) { return kind.attention().num_kv_heads(); }),
          total([](const v1::LayerConfig& kind) { return kind.feed_forward().width(); }),
          absl::StrCat(arch.vocab_size()),
          Mb(weight_bytes),
          Mb(kv_bytes * kTokensShown)};
}

// Right-aligned columns, two spaces apart.
std::string Render(const std::vector<Row>& rows) {
  std::array<int, kColumns> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) {
      widths[i] = std::max(widths[i], static_cast<int>(row[i].size()));
    }
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) {
      absl::StrAppendFormat(&text, "%s%*s", i == 0 ? "" : "  ", widths[i], row[i]);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::string FormatPlan(const v1::ModelDescription& model, const v1::ShardPlan& plan) {
  const std::string title =
      absl::StrFormat("%s%s%s: tensor parallel %d x pipeline parallel %d\n", model.name(),
                      model.quantization().empty() ? "" : " ", model.quantization(),
                      plan.tensor_parallel_size(), plan.pipeline_parallel_size());
  std::vector<Row> rows = {Heading()};
  for (const v1::RankShard& shard : plan.ranks()) rows.push_back(RankRow(RankPartOf(shard)));
  rows.push_back(TotalRow(model.architecture(), plan));
  const std::string foot = absl::StrFormat(
      "KV cache: %d blocks of %d tokens on every rank; up to %d tokens in a sequence\n",
      plan.num_kv_blocks(), plan.kv_block_tokens(), plan.max_model_len());
  return title + Render(rows) + foot;
}

std::string FormatShards(absl::Span<const v1::RankPart* const> shards) {
  std::vector<Row> rows = {Heading()};
  for (const v1::RankPart* shard : shards) rows.push_back(RankRow(*shard));
  return Render(rows);
}

}  // namespace tessera::coordinator
