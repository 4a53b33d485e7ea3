#include "coordinator/simulate/simulated_model.h"

#include <algorithm>
#include <optional>
#include <string>

#include "coordinator/simulate/byte_model.h"
#include "coordinator/simulate/example_models.h"

namespace tessera::testing {
namespace {

constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz ";
constexpr uint64_t kNumLetters = sizeof(kLetters) - 1;

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t hash = a ^ (b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2));
  hash *= 0xff51afd7ed558ccdu;
  return hash ^ (hash >> 33);
}

class Allowed {
 public:
  Allowed(int vocab_size, const v1::LogitsState* draw) : vocab_size_(vocab_size), draw_(draw) {}

  bool operator()(int32_t id) const {
    if (id < 0 || id >= vocab_size_) return false;
    if (draw_ == nullptr) return true;
    const std::string& mask = draw_->allowed_mask();
    const size_t byte = static_cast<size_t>(id) / 8;
    if (!mask.empty() &&
        (byte >= mask.size() || (static_cast<unsigned char>(mask[byte]) >> (id % 8) & 1) == 0)) {
      return false;
    }
    return std::find(draw_->banned_ids().begin(), draw_->banned_ids().end(), id) ==
           draw_->banned_ids().end();
  }

  // -1 when nothing is allowed.
  int32_t Pick(uint64_t hash) const {
    uint64_t count = 0;
    for (int32_t id = 0; id < vocab_size_; ++id) count += (*this)(id) ? 1 : 0;
    if (count == 0) return -1;
    uint64_t left = hash % count;
    int32_t id = 0;
    while (!(*this)(id) || left-- > 0) ++id;
    return id;
  }

 private:
  const int vocab_size_;
  const v1::LogitsState* draw_;
};

float LogprobOf(uint64_t hash) { return -0.25f - static_cast<float>(hash % 1000) / 500; }

// `first`, then the ids after it, each less likely than the one before.
template <typename Message>
void AddTop(int32_t first, float logprob, int count, int vocab_size, Message* message) {
  for (int i = 0; i < std::min(count, vocab_size); ++i) {
    message->add_top_ids((first + i) % vocab_size);
    message->add_top_logprobs(logprob - static_cast<float>(i));
  }
}

}  // namespace

uint64_t SimulatedModel::Extend(uint64_t state, int32_t token) {
  return Mix(state, static_cast<uint64_t>(token) + 1);
}

bool SimulatedModel::Draw(uint64_t state, const v1::SamplingParams& sampling,
                          const v1::LogitsState* draw, v1::SampledToken* token) const {
  const uint64_t hash = Mix(state, sampling.temperature() > 0 ? sampling.seed() : 0);
  const bool ends = eos_one_in > 0 && (hash >> 32) % static_cast<uint64_t>(eos_one_in) == 0;
  const Allowed allowed(vocab_size, draw);
  int32_t id = ends ? eos_id : kLetters[hash % kNumLetters];
  if (!allowed(id)) id = allowed.Pick(hash);
  if (id < 0) return false;
  token->set_token_id(id);
  token->set_logprob(LogprobOf(hash));
  AddTop(id, token->logprob(), sampling.num_logprobs(), vocab_size, token);
  return true;
}

v1::PromptLogprob SimulatedModel::Score(uint64_t state, int32_t target, int num_top) const {
  const uint64_t hash = Extend(state, target);
  v1::PromptLogprob score;
  score.set_token_id(target);
  score.set_logprob(LogprobOf(hash));
  score.set_vocab_rank(1 + static_cast<int>(hash % static_cast<uint64_t>(vocab_size)));
  AddTop(static_cast<int32_t>(state % static_cast<uint64_t>(vocab_size)), -0.25f, num_top,
         vocab_size, &score);
  return score;
}

std::vector<int32_t> SimulatedModel::Continue(absl::Span<const int32_t> prompt,
                                              const v1::SamplingParams& sampling, int count) const {
  uint64_t state = 0;
  for (const int32_t token : prompt) state = Extend(state, token);
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) {
    v1::SampledToken token;
    Draw(state, sampling, nullptr, &token);
    tokens.push_back(token.token_id());
    state = Extend(state, token.token_id());
  }
  return tokens;
}

v1::ModelDescription SimulatedDescription(int max_positions, int num_layers) {
  v1::ModelDescription model = MakeModel({.name = "simulated",
                                          .num_layers = num_layers,
                                          .hidden_size = 16,
                                          .num_heads = 2,
                                          .num_kv_heads = 1,
                                          .head_dim = 2,
                                          .ffn_size = 32,
                                          .vocab_size = SimulatedModel{}.vocab_size,
                                          .max_positions = max_positions,
                                          .quantized = false});
  *model.mutable_tokenizer() = ByteTokenizer();
  model.set_chat_template(ByteModel().chat_template());
  return model;
}

}  // namespace tessera::testing
