#include "tests/worker/engine/split_sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "worker/engine/sampler.h"

namespace tessera::worker {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

v1::SamplingParams Params(float temperature, int top_k, float top_p, float min_p,
                          int num_logprobs) {
  v1::SamplingParams params;
  params.set_temperature(temperature);
  params.set_top_k(top_k);
  params.set_top_p(top_p);
  params.set_min_p(min_p);
  params.set_num_logprobs(num_logprobs);
  return params;
}

v1::SamplingParams GreedyLike() { return Params(0, 0, 1, 0); }

std::vector<float> RandomLogits(int count, double spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, static_cast<float>(spread));
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

std::vector<v1::Range> SplitAt(const std::vector<int>& ends) {
  std::vector<v1::Range> ranges(ends.size());
  for (size_t i = 0; i < ends.size(); ++i) {
    ranges[i].set_begin(i == 0 ? 0 : ends[i - 1]);
    ranges[i].set_end(ends[i]);
  }
  return ranges;
}

std::vector<v1::Range> Split(int size, int ranks) {
  std::vector<int> ends;
  for (int i = 0; i + 1 < ranks; ++i) ends.push_back((i + 1) * size / ranks + i % 2);
  ends.push_back(size);
  return SplitAt(ends);
}

Row MakeRow(const v1::SamplingParams& params, int64_t position, const std::vector<float>& logits) {
  return {.params = params, .position = position, .logits = logits, .logits_state = {}};
}

void OnAllRanks(int ranks, absl::FunctionRef<void(int, Communicator&)> run) {
  auto communicators = MakeThreadCommunicators(ranks, {});
  std::vector<std::thread> threads;
  for (int tp_rank = 0; tp_rank < ranks; ++tp_rank) {
    threads.emplace_back([&, tp_rank] { run(tp_rank, *communicators[tp_rank]); });
  }
  for (std::thread& thread : threads) thread.join();
}

std::vector<float> PartOf(const std::vector<std::vector<float>>& rows, const v1::Range& own) {
  std::vector<float> part;
  for (const std::vector<float>& row : rows) {
    part.insert(part.end(), row.begin() + own.begin(), row.begin() + own.end());
  }
  return part;
}

std::vector<Outcome> SampleOnAllRanks(const std::vector<Row>& rows,
                                      const std::vector<v1::Range>& vocab,
                                      int64_t max_candidates) {
  const int ranks = static_cast<int>(vocab.size());
  std::vector<Outcome> outcomes(ranks);
  OnAllRanks(ranks, [&](int tp_rank, Communicator& tp) {
    Sampler sampler(&tp, vocab, max_candidates);
    std::vector<SampleRequest> requests;
    std::vector<std::vector<float>> logits;
    for (const Row& row : rows) {
      requests.push_back({&row.params, /*sequence_id=*/7, row.position, &row.logits_state});
      logits.push_back(row.logits);
    }
    auto tokens = sampler.Sample(requests, PartOf(logits, vocab[tp_rank]));
    outcomes[tp_rank].status = tokens.status();
    if (tokens.ok()) outcomes[tp_rank].tokens = *std::move(tokens);
    outcomes[tp_rank].rows_gathered = sampler.rows_gathered();
  });
  return outcomes;
}

std::vector<int32_t> Ids(const Outcome& outcome) {
  std::vector<int32_t> ids;
  for (const v1::SampledToken& token : outcome.tokens) ids.push_back(token.token_id());
  return ids;
}

std::vector<float> ProcessedByDefinition(const Row& row) {
  const v1::SamplingParams& params = row.params;
  const auto& prompt = row.logits_state.prompt_ids();
  const auto& output = row.logits_state.output_ids();
  std::vector<float> changed;
  for (int32_t id = 0; id < static_cast<int32_t>(row.logits.size()); ++id) {
    double logit = row.logits[id];
    const auto times = std::count(output.begin(), output.end(), id);
    const bool seen = times > 0 || std::count(prompt.begin(), prompt.end(), id) > 0;
    if (seen && params.repetition_penalty() != 0) {
      logit = logit > 0 ? logit / params.repetition_penalty() : logit * params.repetition_penalty();
    }
    logit -= double{params.frequency_penalty()} * static_cast<double>(times);
    if (times > 0) logit -= params.presence_penalty();
    for (int i = 0; i < params.bias_ids_size(); ++i) {
      if (params.bias_ids(i) == id) logit += params.bias_values(i);
    }
    const auto& banned = row.logits_state.banned_ids();
    const std::string& mask = row.logits_state.allowed_mask();
    const bool masked = !mask.empty() && (mask[id / 8] & (1 << (id % 8))) == 0;
    const bool forbidden = masked || std::count(banned.begin(), banned.end(), id) > 0;
    changed.push_back(forbidden ? -kInfinity : static_cast<float>(logit));
  }
  return changed;
}

std::vector<int32_t> KeptByDefinition(const Row& row) {
  const v1::SamplingParams& params = row.params;
  const std::vector<float> logits = ProcessedByDefinition(row);
  std::vector<int32_t> order;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != -kInfinity) order.push_back(static_cast<int32_t>(i));
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  if (params.top_k() > 0) order.resize(std::min<size_t>(order.size(), params.top_k()));
  auto weight = [&](int32_t id) {
    return std::exp((double{logits[id]} - logits[order[0]]) / params.temperature());
  };
  double mass = 0, reached = 0;
  for (int32_t id : order) mass += weight(id);
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || reached < params.top_p() * mass)) {
    reached += weight(order[kept++]);
  }
  if (params.top_p() < 1) order.resize(kept);
  while (weight(order.back()) < params.min_p()) order.pop_back();
  return order;
}

int32_t SampledByDefinition(const Row& row) {
  const std::vector<float> logits = ProcessedByDefinition(row);
  const std::vector<int32_t> kept = KeptByDefinition(row);
  if (row.params.temperature() == 0) return kept[0];
  const kernels::NoiseRow noise(row.params.seed(), row.position);
  int32_t best = -1;
  double best_score = -std::numeric_limits<double>::infinity();
  for (int32_t id : kept) {
    const double score = logits[id] / double{row.params.temperature()} + noise.Gumbel(id);
    if (score > best_score || (score == best_score && id < best)) {
      best = id;
      best_score = score;
    }
  }
  return best;
}

std::vector<double> LogSoftmax(const std::vector<float>& logits) {
  double mass = 0;
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (float logit : logits) mass += std::exp(logit - largest);
  std::vector<double> result;
  for (float logit : logits) result.push_back(logit - largest - std::log(mass));
  return result;
}

}  // namespace tessera::worker
