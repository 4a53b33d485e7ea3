#include "kernels/cuda/step_arrays.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tessera::kernels::cuda {
namespace {

int64_t FirstChunk(int64_t position, int sliding_window) {
  if (sliding_window <= 0) return 0;
  return std::max<int64_t>(0, position - sliding_window + 1) / kAttentionChunk;
}

int64_t ChunksOf(int64_t position, int sliding_window) {
  return position / kAttentionChunk - FirstChunk(position, sliding_window) + 1;
}

int64_t PrefillItemsOf(const SequenceSpan& sequence, int largest_group) {
  return (int64_t{sequence.num_tokens} * largest_group + kPrefillRows - 1) / kPrefillRows;
}

absl::Status CheckCapacity(const char* what, int64_t needed, int64_t capacity) {
  if (needed <= capacity) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "step: ", needed, " ", what, " needed; the device has room for ", capacity));
}

}  // namespace

StepCapacity CapacityFor(const StepView& step, int64_t n, int largest_group, int sliding_window) {
  StepCapacity capacity;
  capacity.tokens = n;
  capacity.sequences = step.num_sequences;
  capacity.rope_dim = step.rope.rope_dim;
  for (int64_t s = 0; s < step.num_sequences; ++s) {
    const SequenceSpan& sequence = step.sequences[s];
    capacity.table_entries += sequence.num_blocks;
    if (sequence.num_tokens >= kPrefillTokens) {
      capacity.prefill_items += PrefillItemsOf(sequence, largest_group);
      continue;
    }
    for (int32_t i = 0; i < sequence.num_tokens; ++i) {
      capacity.decode_items += ChunksOf(int64_t{sequence.start_position} + i, sliding_window);
    }
  }
  return capacity;
}

StepLayout::StepLayout(const StepCapacity& capacity) : capacity_(capacity) {
  const auto place = [this](int64_t count, int64_t element_bytes) {
    const int64_t begin = bytes_;
    bytes_ = (bytes_ + count * element_bytes + 15) / 16 * 16;
    return begin;
  };
  counts_ = place(4, sizeof(int32_t));
  ids_ = place(capacity.tokens, sizeof(int32_t));
  positions_ = place(capacity.tokens, sizeof(int32_t));
  sequences_ = place(capacity.tokens, sizeof(int32_t));
  table_begins_ = place(capacity.sequences, sizeof(int32_t));
  decode_begins_ = place(capacity.tokens + 1, sizeof(int32_t));
  decode_items_ = place(capacity.decode_items, sizeof(DecodeItem));
  prefill_items_ = place(capacity.prefill_items, sizeof(PrefillItem));
  cos_ = place(capacity.tokens * (capacity.rope_dim / 2), sizeof(float));
  sin_ = place(capacity.tokens * (capacity.rope_dim / 2), sizeof(float));
  tables_ = place(capacity.table_entries, sizeof(int32_t));
}

absl::StatusOr<StepCounts> StepLayout::Fill(const StepView& step, int64_t n, int largest_group,
                                            int sliding_window, std::byte* host) const {
  const StepCapacity needed = CapacityFor(step, n, largest_group, sliding_window);
  for (const auto& [what, need, have] :
       {std::tuple{"rows", std::max(n, step.n), capacity_.tokens},
        {"sequences", needed.sequences, capacity_.sequences},
        {"KV block table entries", needed.table_entries, capacity_.table_entries},
        {"attention chunks", needed.decode_items, capacity_.decode_items},
        {"prefill tiles", needed.prefill_items, capacity_.prefill_items},
        {"rotary dims", int64_t{needed.rope_dim}, int64_t{capacity_.rope_dim}}}) {
    if (absl::Status status = CheckCapacity(what, need, have); !status.ok()) return status;
  }
  const auto ints = [host](int64_t offset) { return reinterpret_cast<int32_t*>(host + offset); };
  int32_t* positions = ints(positions_);
  int32_t* sequences = ints(sequences_);
  int32_t* table_begins = ints(table_begins_);
  int32_t* decode_begins = ints(decode_begins_);
  int32_t* tables = ints(tables_);
  auto* decode_items = reinterpret_cast<DecodeItem*>(host + decode_items_);
  auto* prefill_items = reinterpret_cast<PrefillItem*>(host + prefill_items_);

  if (step.ids) std::copy_n(step.ids, step.n, ints(ids_));
  std::fill(ints(ids_) + (step.ids ? step.n : 0), ints(ids_) + n, 0);
  std::fill_n(positions, capacity_.tokens, -1);
  std::fill_n(sequences, capacity_.tokens, 0);
  StepCounts counts;
  int32_t table_end = 0;
  int64_t token = 0;
  for (int64_t s = 0; s < step.num_sequences; ++s) {
    const SequenceSpan& sequence = step.sequences[s];
    if (sequence.first_token != token) {
      return absl::InvalidArgumentError(absl::StrCat("step: sequence ", s, " begins at token ",
                                                     sequence.first_token, "; expected ", token));
    }
    table_begins[s] = table_end;
    std::copy_n(sequence.block_table, sequence.num_blocks, tables + table_end);
    table_end += sequence.num_blocks;
    const bool prefill = sequence.num_tokens >= kPrefillTokens;
    for (int32_t i = 0; i < sequence.num_tokens; ++i, ++token) {
      const int32_t position = sequence.start_position + i;
      positions[token] = position;
      sequences[token] = static_cast<int32_t>(s);
      decode_begins[token] = static_cast<int32_t>(counts.decode_items);
      if (prefill) continue;
      const int64_t first = FirstChunk(position, sliding_window);
      for (int64_t c = first; c <= position / kAttentionChunk; ++c) {
        decode_items[counts.decode_items++] = {static_cast<int32_t>(token),
                                               static_cast<int32_t>(c)};
      }
    }
    if (!prefill) continue;
    for (int64_t i = 0; i < PrefillItemsOf(sequence, largest_group); ++i) {
      prefill_items[counts.prefill_items++] = {sequence.first_token, sequence.num_tokens,
                                               static_cast<int32_t>(i * kPrefillRows)};
    }
  }
  if (token != step.n) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: its sequences have ", token, " tokens; expected ", step.n));
  }
  std::fill(decode_begins + token, decode_begins + capacity_.tokens + 1,
            static_cast<int32_t>(counts.decode_items));
  ints(counts_)[0] = static_cast<int32_t>(counts.decode_items);
  ints(counts_)[1] = static_cast<int32_t>(counts.prefill_items);
  ints(counts_)[2] = ints(counts_)[3] = 0;

  // Rows are as wide as this step's rotary part, which may be less than the capacity's.
  const int64_t pairs = step.rope.rope_dim / 2;
  if (pairs > 0) {
    std::copy_n(step.rope.cos, step.n * pairs, reinterpret_cast<float*>(host + cos_));
    std::copy_n(step.rope.sin, step.n * pairs, reinterpret_cast<float*>(host + sin_));
  }
  return counts;
}

StepArrays StepLayout::Arrays(const std::byte* device, const RopeTable& rope,
                              bool with_ids) const {
  const auto ints = [device](int64_t offset) {
    return reinterpret_cast<const int32_t*>(device + offset);
  };
  StepArrays arrays;
  arrays.n_capacity = capacity_.tokens;
  arrays.ids = with_ids ? ints(ids_) : nullptr;
  arrays.positions = ints(positions_);
  arrays.sequences = ints(sequences_);
  arrays.sequences_capacity = capacity_.sequences;
  arrays.table_begins = ints(table_begins_);
  arrays.tables_capacity = capacity_.table_entries;
  arrays.tables = ints(tables_);
  arrays.rope_cos = reinterpret_cast<const float*>(device + cos_);
  arrays.rope_sin = reinterpret_cast<const float*>(device + sin_);
  arrays.rope_dim = rope.rope_dim;
  arrays.rope_interleaved = rope.interleaved;
  arrays.decode_capacity = capacity_.decode_items;
  arrays.decode_items = reinterpret_cast<const DecodeItem*>(device + decode_items_);
  arrays.decode_begins = ints(decode_begins_);
  arrays.num_decode_items = ints(counts_);
  arrays.prefill_capacity = capacity_.prefill_items;
  arrays.prefill_items = reinterpret_cast<const PrefillItem*>(device + prefill_items_);
  return arrays;
}

}  // namespace tessera::kernels::cuda
