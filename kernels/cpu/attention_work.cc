#include "kernels/cpu/attention_work.h"

#include <algorithm>
#include <cstdint>

namespace tessera::kernels::cpu {
namespace {

// The order of tiles: so many tokens of a sequence, head by head, before the next ones. A thread's
// first tiles are then of the tokens that it has at hand, and a head's keys and values, once read,
// serve several tiles.
constexpr int kTokensTogether = 64;
// Later tokens attend to more, so that parts differ: with many, all threads end at about one time.
constexpr int kTilePartsPerThread = 16;

struct Chunks {
  int begin;
  int end;
  int count() const { return end - begin; }
};
Chunks ChunksOf(const AttentionShape& shape, const AttentionTile& tile) {
  const int last = tile.start_position + tile.num_tokens - 1;
  const int window = shape.sliding_window;
  const int first = window > 0 ? std::max(0, tile.start_position - window + 1) : 0;
  return {first / kAttentionChunk, last / kAttentionChunk + 1};
}

// Where runs of query heads that read the same KV head begin, and the number of heads at the end.
std::vector<int> HeadGroups(const AttentionShape& shape) {
  std::vector<int> groups;
  for (int h = 0; h < shape.num_q_heads; ++h) {
    if (h == 0 || shape.kv_head_of[h] != shape.kv_head_of[h - 1]) groups.push_back(h);
  }
  groups.push_back(shape.num_q_heads);
  return groups;
}

}  // namespace

void AttentionWork::Attend(const AttentionArgs& args, const StepView& step) {
  CutIntoTiles(args.shape, step);
  const auto tiles = static_cast<int64_t>(tiles_.size());
  const bool few = tiles < int64_t{4} * workers_.threads();
  if (workers_.threads() > 1 && few && HasLongTile(args.shape)) {
    AttendByChunk(args);
  } else {
    AttendByTile(args);
  }
}

bool AttentionWork::HasLongTile(const AttentionShape& shape) const {
  for (const AttentionTile& tile : tiles_) {
    if (ChunksOf(shape, tile).count() > 1) return true;
  }
  return false;
}

// The step's tokens and heads as tiles_.
void AttentionWork::CutIntoTiles(const AttentionShape& shape, const StepView& step) {
  tiles_.clear();
  const std::vector<int> groups = HeadGroups(shape);  // group g: heads [groups[g], groups[g + 1])
  for (int64_t s = 0; s < step.num_sequences; ++s) {
    const SequenceSpan& span = step.sequences[s];
    for (int begin = 0; begin < span.num_tokens; begin += kTokensTogether) {
      const int end = std::min(span.num_tokens, begin + kTokensTogether);
      for (size_t g = 0; g + 1 < groups.size(); ++g) {
        const int heads = std::min(groups[g + 1] - groups[g], kAttentionTileRows);
        const int tokens = std::max(1, kAttentionTileRows / heads);
        for (int head = groups[g]; head < groups[g + 1]; head += heads) {
          for (int t = begin; t < end; t += tokens) {
            tiles_.push_back({.first_token = span.first_token + t,
                              .num_tokens = std::min(tokens, end - t),
                              .start_position = span.start_position + t,
                              .block_table = span.block_table,
                              .head_begin = head,
                              .head_end = std::min(head + heads, groups[g + 1])});
          }
        }
      }
    }
  }
}

void AttentionWork::AttendByTile(const AttentionArgs& args) {
  int64_t macs = 0;
  for (const AttentionTile& tile : tiles_) {
    macs += int64_t{2} * tile.rows() * (tile.start_position + 1) * args.shape.head_dim;
  }
  const auto count = static_cast<int64_t>(tiles_.size());
  const auto attend = [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const AttentionTile& tile = tiles_[i];
      const int64_t state_floats = 2 * ops_.attention_state(tile.rows(), args.shape.head_dim);
      float* state = workers_.scratch(thread).Get<float>(
          state_floats + ops_.attention_scratch(args.shape.head_dim));
      const Chunks chunks = ChunksOf(args.shape, tile);
      ops_.attention(args, tile, chunks.begin, chunks.end, state, state + state_floats);
      ops_.attention_finish(args, tile, state);
    }
  };
  workers_.Split(count, 1, macs >= kMinParallelMacs, kTilePartsPerThread, attend);
}

void AttentionWork::AttendByChunk(const AttentionArgs& args) {
  struct Part {
    const AttentionTile* tile;
    int chunk;
    int64_t state;  // where in states_
  };
  std::vector<Part> parts;
  int64_t floats = 0;
  for (const AttentionTile& tile : tiles_) {
    const Chunks chunks = ChunksOf(args.shape, tile);
    for (int chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      parts.push_back({&tile, chunk, floats});
      floats += ops_.attention_state(tile.rows(), args.shape.head_dim);
    }
  }
  float* states = states_.Get<float>(floats);
  workers_.Split(
      static_cast<int64_t>(parts.size()), 1, true, [&](int64_t begin, int64_t end, int thread) {
        float* scratch =
            workers_.scratch(thread).Get<float>(ops_.attention_scratch(args.shape.head_dim));
        for (int64_t i = begin; i < end; ++i) {
          ops_.attention(args, *parts[i].tile, parts[i].chunk, parts[i].chunk + 1,
                         states + parts[i].state, scratch);
        }
      });
  for (size_t i = 0; i < parts.size();) {
    const AttentionTile* tile = parts[i].tile;
    float* state = states + parts[i].state;
    for (++i; i < parts.size() && parts[i].tile == tile; ++i) {
      ops_.attention_merge(args, *tile, states + parts[i].state, state);
    }
    ops_.attention_finish(args, *tile, state);
  }
}

}  // namespace tessera::kernels::cpu
