// What a rank can say of its part of a row of logits: is all of it finite, the largest, a sample by
// Gumbel noise, log-sum-exp as is and at the temperature, the best candidates. One block per row;
// the row is read from memory once and then, 3 times at most, from the L2 cache: bound by 4 bytes per
// logit and, for a single row, by what one multiprocessor can read.
//
// The best k: a logit and its index make one 64-bit key (larger logit first, lower index among
// equals), so all keys differ. The k-th best of the threads' own bests is below k keys, so it bounds
// the k best from below; what reaches it (little more than k) is collected and sorted. Should more
// reach it than there is room for, the best are found one by one.
#include "kernels/cuda/noise.cuh"
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kRoom = 2048;  // keys collected

struct SampleArgs {
  View<const float> logits;  // (rows, vocab)
  View<const SampleRow> rows;
  View<SampledRow> sampled;
  View<Candidate> candidates;
  int64_t vocab = 0;
  int32_t first_id = 0;
};

// Larger logits and, among equals, lower indices have larger keys. -0 counts as 0. Never 0.
TESSERA_DEVICE uint64_t KeyOf(float logit, uint32_t index) {
  const uint32_t bits = BitsOfFloat(logit + 0.0f);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | (0xffffffffu - index);
}
TESSERA_DEVICE uint32_t IndexOf(uint64_t key) {
  return 0xffffffffu - static_cast<uint32_t>(key);
}
// The logit of a key; 0 where it was -0.
TESSERA_DEVICE float LogitOf(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return FloatOfBits(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

TESSERA_DEVICE uint64_t BlockMax(uint64_t key, const Shared<uint64_t>& partial) {
  TESSERA_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    const uint64_t other = ShuffleXor(key, mask);
    if (other > key) key = other;
  }
  SyncThreads();
  if (Lane() == 0) partial.Set(WarpIndex(), key);
  SyncThreads();
  for (int w = 0; w < kWarps; ++w) {
    const uint64_t other = partial.Get(w);
    if (other > key) key = other;
  }
  return key;
}

TESSERA_DEVICE double BlockSumDouble(double value, const Shared<double>& partial) {
  TESSERA_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value += ShuffleXor(value, mask);
  SyncThreads();
  if (Lane() == 0) partial.Set(WarpIndex(), value);
  SyncThreads();
  double sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += partial.Get(w);
  return sum;
}

struct Scored {
  double score;
  uint64_t key;  // of the logit: ties by lowest index are not ties of keys, so compare indices
};
TESSERA_DEVICE bool Better(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && IndexOf(a.key) < IndexOf(b.key));
}

TESSERA_DEVICE Scored BlockBest(Scored scored, const Shared<double>& scores,
                              const Shared<uint64_t>& keys) {
  TESSERA_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    const Scored other = {ShuffleXor(scored.score, mask), ShuffleXor(scored.key, mask)};
    if (Better(other, scored)) scored = other;
  }
  SyncThreads();
  if (Lane() == 0) scores.Set(WarpIndex(), scored.score), keys.Set(WarpIndex(), scored.key);
  SyncThreads();
  for (int w = 0; w < kWarps; ++w) {
    const Scored other = {scores.Get(w), keys.Get(w)};
    if (Better(other, scored)) scored = other;
  }
  return scored;
}

// Sorts keys[0, count), count a power of two up to kRoom, the largest first.
TESSERA_DEVICE void SortKeys(const Shared<uint64_t>& keys, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      SyncThreads();
      for (int i = ThreadIndex(); i < count / 2; i += kThreads) {
        const int low = i / stride * 2 * stride + i % stride;
        const int high = low + stride;
        const uint64_t a = keys.Get(low);
        const uint64_t b = keys.Get(high);
        const bool falling = (low & size) == 0;
        if ((a < b) == falling) keys.Set(low, b), keys.Set(high, a);
      }
    }
  }
  SyncThreads();
}

// The `count` best into the row's candidates. my_best: the thread's own best key, 0 for none.
TESSERA_DEVICE void StoreBest(const SampleArgs& args, int64_t row, int count, uint64_t my_best,
                              const Shared<uint64_t>& keys, const Shared<uint64_t>& partial,
                              const Shared<int32_t>& collected) {
  const int64_t begin = row * args.vocab;
  const int64_t to = row * kMaxCandidates;
  const int wanted = count < args.vocab ? count : static_cast<int>(args.vocab);
  SyncThreads();
  keys.Set(ThreadIndex(), my_best);
  if (ThreadIndex() == 0) collected.Set(0, 0);
  SortKeys(keys, kThreads);
  const uint64_t bound = keys.Get(wanted - 1);  // 0: fewer threads have any; then take all
  SyncThreads();
  for (int i = ThreadIndex(); i < kRoom; i += kThreads) keys.Set(i, 0);
  SyncThreads();
  for (int64_t i = ThreadIndex(); i < args.vocab; i += kThreads) {
    const uint64_t key = KeyOf(args.logits.Get(begin + i), static_cast<uint32_t>(i));
    if (key >= bound) {
      const int at = AtomicAdd(collected, 0, 1);
      if (at < kRoom) keys.Set(at, key);
    }
  }
  SyncThreads();
  const int found = collected.Get(0);
  const auto candidate = [&](uint64_t key) {
    return Candidate{LogitOf(key), args.first_id + static_cast<int32_t>(IndexOf(key))};
  };
  if (found <= kRoom) {
    int size = 1;
    while (size < found) size *= 2;
    SortKeys(keys, size);
    for (int i = ThreadIndex(); i < wanted; i += kThreads) {
      args.candidates.Set(to + i, candidate(keys.Get(i)));
    }
  } else {
    uint64_t last = ~uint64_t{0};
    for (int i = 0; i < wanted; ++i) {
      uint64_t best = 0;
      for (int64_t j = ThreadIndex(); j < args.vocab; j += kThreads) {
        const uint64_t key = KeyOf(args.logits.Get(begin + j), static_cast<uint32_t>(j));
        if (key < last && key > best) best = key;
      }
      last = BlockMax(best, partial);
      if (ThreadIndex() == 0) args.candidates.Set(to + i, candidate(last));
    }
  }
  for (int i = wanted + ThreadIndex(); i < count; i += kThreads) {
    args.candidates.Set(to + i, {0, -1});
  }
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 1) void SampleRowsKernel(SampleArgs args) {
  TESSERA_SHARED(uint64_t, keys, kRoom);
  TESSERA_SHARED(uint64_t, partial_keys, kWarps);
  TESSERA_SHARED(double, partial, kWarps);
  TESSERA_SHARED(int32_t, collected, 1);
  const int64_t row = BlockX();
  const int64_t begin = row * args.vocab;
  const SampleRow request = args.rows.Get(row);

  uint64_t my_best = 0;
  float zeros = 0;  // NaN once a logit was NaN or infinite
  for (int64_t i = ThreadIndex(); i < args.vocab; i += kThreads) {
    const float logit = args.logits.Get(begin + i);
    zeros += MulRn(logit, 0.0f);
    const uint64_t key = KeyOf(logit, static_cast<uint32_t>(i));
    if (key > my_best) my_best = key;
  }
  const double not_finite = BlockSumDouble(zeros == 0.0f ? 0.0 : 1.0, partial);
  if (not_finite != 0) {  // the whole block
    if (ThreadIndex() == 0) {
      args.sampled.Set(row, SampledRow{});  // kNotFinite
    }
    return;
  }
  const uint64_t greedy = BlockMax(my_best, partial_keys);
  const float largest = LogitOf(greedy);
  const bool random = request.temperature > 0;
  const double temperature = random ? request.temperature : 1.0;
  const float inverse = static_cast<float>(1.0 / temperature);

  const Noise noise(request.seed, request.position);
  const int32_t greedy_id = args.first_id + static_cast<int32_t>(IndexOf(greedy));
  Scored best = {largest, greedy};
  if (random) best.score = largest / temperature + noise.Gumbel(greedy_id);
  float raw = 0;
  float scaled = 0;
  for (int64_t i = ThreadIndex(); i < args.vocab; i += kThreads) {
    const float logit = args.logits.Get(begin + i);
    raw += Exp(logit - largest);
    if (!random) continue;
    scaled += Exp((logit - largest) * inverse);
    const int32_t id = args.first_id + static_cast<int32_t>(i);
    const double score = logit / temperature;
    if (score + noise.GumbelBound(id) < best.score) continue;
    const Scored scored = {score + noise.Gumbel(id), KeyOf(logit, static_cast<uint32_t>(i))};
    if (Better(scored, best)) best = scored;
  }
  best = BlockBest(best, partial, partial_keys);
  const double raw_mass = BlockSumDouble(raw, partial);
  const double scaled_mass = BlockSumDouble(scaled, partial);
  if (ThreadIndex() == 0) {
    SampledRow result;
    result.score = best.score;
    result.id = args.first_id + static_cast<int32_t>(IndexOf(best.key));
    result.logit = LogitOf(best.key);
    result.greedy_id = greedy_id;
    result.greedy_logit = largest;
    result.raw_mass = largest + LogDouble(raw_mass);
    result.scaled_mass =
        random ? largest / temperature + LogDouble(scaled_mass) : result.raw_mass;
    args.sampled.Set(row, result);
  }
  if (request.num_candidates > 0) {
    const int count =
        request.num_candidates < kMaxCandidates ? request.num_candidates : kMaxCandidates;
    StoreBest(args, row, count, my_best, keys, partial_keys, collected);
  }
}

}  // namespace

int LaunchSampleRows(const float* logits, int64_t count, int64_t vocab, int32_t first_id,
                     const SampleRow* rows, SampledRow* sampled, Candidate* candidates,
                     Stream stream) {
  if (count == 0) return kLaunched;
  if (vocab < 1) return kNoSuchKernel;
  SampleArgs args;
  args.logits = TESSERA_VIEW(logits, count * vocab);
  args.rows = TESSERA_VIEW(rows, count);
  args.sampled = TESSERA_VIEW(sampled, count);
  args.candidates = TESSERA_VIEW(candidates, count * kMaxCandidates);
  args.vocab = vocab;
  args.first_id = first_id;
  return Launch("SampleRows", SampleRowsKernel, {.x = count, .threads = kThreads}, stream, args);
}

}  // namespace tessera::kernels::cuda
