// The "model" of the scheduler's tests: what is drawn next is a hash of every token before it, of
// the seed, and of all that v1::LogitsState says. Whoever lost, mixed up or reordered any of it
// draws other tokens than ReferenceTokens, which knows no scheduler, no blocks and no steps.
#ifndef TESSERA_TESTS_COORDINATOR_SCHEDULE_FAKE_MODEL_H_
#define TESSERA_TESTS_COORDINATOR_SCHEDULE_FAKE_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/token_constraint.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::testing {

inline constexpr int kFakeVocab = 97;

inline uint64_t MixToken(uint64_t hash, int32_t token) {
  hash ^= static_cast<uint64_t>(token) + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
}

inline uint64_t HashOf(const std::vector<int32_t>& tokens) {
  uint64_t hash = 0;
  for (const int32_t token : tokens) hash = MixToken(hash, token);
  return hash;
}

inline bool MaskAllows(const std::string& mask, int32_t id) {
  return mask.empty() || (static_cast<uint8_t>(mask[static_cast<size_t>(id / 8)]) >> (id % 8) & 1);
}

// `prefix`: of all the tokens before the drawn one.
inline int32_t DrawToken(uint64_t prefix, uint64_t seed, const v1::LogitsState& draw) {
  uint64_t hash = MixToken(prefix, static_cast<int32_t>(seed));
  for (const int32_t id : draw.prompt_ids()) hash = MixToken(hash, id + 1'000);
  for (const int32_t id : draw.output_ids()) hash = MixToken(hash, id + 2'000);
  while (true) {
    hash = MixToken(hash, -7);
    const int32_t id = static_cast<int32_t>((hash >> 32) % kFakeVocab);
    const auto& banned = draw.banned_ids();
    if (std::find(banned.begin(), banned.end(), id) != banned.end()) continue;
    if (MaskAllows(draw.allowed_mask(), id)) return id;
  }
}

// The log probability of `id` after that prefix: any function that is easily told apart.
inline float FakeLogprob(uint64_t prefix, int32_t id) {
  return -static_cast<float>((MixToken(prefix, id) >> 40) % 10'000) / 100;
}

// Allows about a third of the vocabulary, another third after every token.
class FakeConstraint : public coordinator::TokenConstraint {
 public:
  explicit FakeConstraint(uint64_t salt) : state_(salt) { Fill(); }

  std::unique_ptr<TokenConstraint> Clone() const override {
    return std::make_unique<FakeConstraint>(*this);
  }
  const std::string& AllowedMask() override { return mask_; }
  bool Accept(int32_t token) override {
    if (token < 0 || token >= kFakeVocab || !MaskAllows(mask_, token)) return false;
    state_ = MixToken(state_, token);
    Fill();
    return true;
  }

 private:
  void Fill() {
    mask_.assign((kFakeVocab + 7) / 8, '\0');
    for (int32_t id = 0; id < kFakeVocab; ++id) {
      if (id % 48 == 0 || (MixToken(state_, id) >> 32) % 3 == 0) {
        mask_[static_cast<size_t>(id / 8)] |= static_cast<char>(1 << (id % 8));
      }
    }
  }

  uint64_t state_;
  std::string mask_;
};

namespace internal {

inline bool EndsWith(const std::vector<int32_t>& tokens, const std::vector<int32_t>& end) {
  return end.size() <= tokens.size() && std::equal(end.rbegin(), end.rend(), tokens.rbegin());
}

// What LogitsState has to say after these tokens of `request`, of which `emitted` were drawn.
inline v1::LogitsState ReferenceDraw(const coordinator::ScheduledRequest& request,
                                     const std::vector<int32_t>& tokens, int emitted,
                                     coordinator::TokenConstraint* constraint) {
  v1::LogitsState draw;
  const v1::SamplingParams& sampling = request.sampling;
  const bool repetition = sampling.repetition_penalty() != 0 && sampling.repetition_penalty() != 1;
  if (repetition) {
    const std::set<int32_t> ids(request.prompt_ids.begin(), request.prompt_ids.end());
    draw.mutable_prompt_ids()->Add(ids.begin(), ids.end());
  }
  if (repetition || sampling.presence_penalty() != 0 || sampling.frequency_penalty() != 0) {
    draw.mutable_output_ids()->Add(tokens.end() - emitted, tokens.end());
  }
  if (emitted < request.min_tokens) {
    draw.mutable_banned_ids()->Add(request.stop_ids.begin(), request.stop_ids.end());
  }
  for (std::vector<int32_t> word : request.bad_words) {
    const int32_t last = word.back();
    word.pop_back();
    if (EndsWith(tokens, word)) draw.add_banned_ids(last);
  }
  if (constraint != nullptr) draw.set_allowed_mask(constraint->AllowedMask());
  return draw;
}

}  // namespace internal

// What the fake model answers to one choice of `request`, computed without any scheduler.
inline std::vector<int32_t> ReferenceTokens(const coordinator::ScheduledRequest& request,
                                            int max_len, int choice = 0) {
  const uint64_t seed =
      request.seeds.empty() ? request.sampling.seed() : request.seeds[static_cast<size_t>(choice)];
  const auto constraint = request.constraint ? request.constraint->Clone() : nullptr;
  std::vector<int32_t> tokens = request.prompt_ids;
  uint64_t hash = HashOf(tokens);
  std::vector<int32_t> output;
  while (static_cast<int>(output.size()) < request.max_tokens &&
         static_cast<int>(tokens.size()) < max_len) {
    const v1::LogitsState draw =
        internal::ReferenceDraw(request, tokens, static_cast<int>(output.size()), constraint.get());
    const int32_t token = DrawToken(hash, seed, draw);
    if (constraint) constraint->Accept(token);
    output.push_back(token);
    tokens.push_back(token);
    hash = MixToken(hash, token);
    const auto& stops = request.stop_ids;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) break;
  }
  return output;
}

// The log probabilities of the prompt tokens from request.prompt_logprobs_from on.
inline std::vector<float> ReferencePromptLogprobs(const coordinator::ScheduledRequest& request) {
  std::vector<float> logprobs;
  if (request.prompt_logprobs_from < 1) return logprobs;
  uint64_t hash = 0;
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    const int32_t token = request.prompt_ids[i];
    if (static_cast<int>(i) >= request.prompt_logprobs_from)
      logprobs.push_back(FakeLogprob(hash, token));
    hash = MixToken(hash, token);
  }
  return logprobs;
}

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SCHEDULE_FAKE_MODEL_H_
