#include "coordinator/schedule/logits_state.h"

#include <algorithm>
#include <string>

namespace tessera::coordinator {
namespace {

bool HasRepetitionPenalty(const v1::SamplingParams& sampling) {
  return sampling.repetition_penalty() != 0 && sampling.repetition_penalty() != 1;
}

bool HasPenalty(const v1::SamplingParams& sampling) {
  return HasRepetitionPenalty(sampling) || sampling.presence_penalty() != 0 ||
         sampling.frequency_penalty() != 0;
}

bool Allows(const std::string& mask, int32_t id) {
  const size_t byte = static_cast<size_t>(id) / 8;
  return id >= 0 && byte < mask.size() && (static_cast<uint8_t>(mask[byte]) >> (id % 8) & 1) != 0;
}

int CountBits(const std::string& mask, int enough) {
  int bits = 0;
  for (size_t i = 0; i < mask.size() && bits < enough; ++i) {
    bits += __builtin_popcount(static_cast<uint8_t>(mask[i]));
  }
  return bits;
}

// Whether the mask still allows something that is not banned.
bool LeavesSomething(const std::string& mask, const std::vector<int32_t>& banned) {
  const int most = static_cast<int>(banned.size());
  if (CountBits(mask, most + 1) > most) return true;
  std::vector<int32_t> allowed_and_banned;
  for (const int32_t id : banned) {
    if (Allows(mask, id)) allowed_and_banned.push_back(id);
  }
  std::sort(allowed_and_banned.begin(), allowed_and_banned.end());
  allowed_and_banned.erase(std::unique(allowed_and_banned.begin(), allowed_and_banned.end()),
                           allowed_and_banned.end());
  const int taken = static_cast<int>(allowed_and_banned.size());
  return CountBits(mask, taken + 1) > taken;
}

// Whether `tokens` end with all of `word` but its last token.
bool NextWouldComplete(const std::vector<int32_t>& word, const std::vector<int32_t>& tokens) {
  const size_t before = word.size() - 1;
  return before <= tokens.size() &&
         std::equal(word.begin(), word.end() - 1, tokens.end() - static_cast<int64_t>(before));
}

void AppendStopIds(const ScheduledRequest& request, std::vector<int32_t>* banned) {
  banned->insert(banned->end(), request.stop_ids.begin(), request.stop_ids.end());
}

void AppendBadWords(const Sequence& sequence, std::vector<int32_t>* banned) {
  for (const std::vector<int32_t>& word : sequence.request->request.bad_words) {
    if (!word.empty() && NextWouldComplete(word, sequence.tokens)) banned->push_back(word.back());
  }
}

void KeepVocabulary(int vocab_size, std::vector<int32_t>* ids) {
  const auto outside = [vocab_size](int32_t id) {
    return id < 0 || (vocab_size > 0 && id >= vocab_size);
  };
  ids->erase(std::remove_if(ids->begin(), ids->end(), outside), ids->end());
}

// The constraint's mask and what is banned besides. Something has to be left to sample: where the
// constraint leaves nothing else, first min_tokens gives way, then the bad words.
void FillAllowed(Sequence& sequence, int vocab_size, v1::LogitsState* draw) {
  const ScheduledRequest& request = sequence.request->request;
  std::vector<int32_t> banned;
  AppendBadWords(sequence, &banned);
  const size_t bad_words = banned.size();
  if (sequence.emitted() + sequence.pending_samples < request.min_tokens)
    AppendStopIds(request, &banned);
  if (sequence.constraint != nullptr) {
    const std::string& mask = sequence.constraint->AllowedMask();
    draw->set_allowed_mask(mask);
    if (!LeavesSomething(mask, banned)) banned.resize(bad_words);
    if (!LeavesSomething(mask, banned)) banned.clear();
  }
  KeepVocabulary(vocab_size, &banned);
  draw->mutable_banned_ids()->Add(banned.begin(), banned.end());
}

void FillPenalized(const Sequence& sequence, v1::LogitsState* draw) {
  const RequestState& state = *sequence.request;
  draw->mutable_prompt_ids()->Add(state.distinct_prompt_ids.begin(),
                                  state.distinct_prompt_ids.end());
  draw->mutable_output_ids()->Add(sequence.tokens.begin() + state.prompt_tokens,
                                  sequence.tokens.end());
}

}  // namespace

bool NeedsLastToken(const ScheduledRequest& request) {
  return request.constraint != nullptr ||
         std::any_of(request.bad_words.begin(), request.bad_words.end(),
                     [](const std::vector<int32_t>& word) { return word.size() > 1; });
}

std::vector<int32_t> PromptIdsForPenalty(const ScheduledRequest& request) {
  if (!HasRepetitionPenalty(request.sampling)) return {};
  std::vector<int32_t> ids = request.prompt_ids;
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void FillSampling(Sequence& sequence, int vocab_size, v1::SequenceChunk* chunk) {
  const ScheduledRequest& request = sequence.request->request;
  v1::SamplingParams* sampling = chunk->mutable_sampling();
  *sampling = request.sampling;
  sampling->set_seed(sequence.request->seed(sequence.choice));
  const bool bans = !request.bad_words.empty() ||
                    sequence.emitted() + sequence.pending_samples < request.min_tokens;
  if (bans || sequence.constraint != nullptr) {
    FillAllowed(sequence, vocab_size, chunk->mutable_logits_state());
  }
  if (HasPenalty(request.sampling)) FillPenalized(sequence, chunk->mutable_logits_state());
}

bool HasStatelessSampling(const ScheduledRequest& request) {
  return request.constraint == nullptr && request.bad_words.empty() && request.min_tokens <= 0 &&
         !HasPenalty(request.sampling);
}

bool MayFollow(Sequence& sequence, int32_t token) {
  return sequence.stateless_sampling || sequence.constraint == nullptr ||
         Allows(sequence.constraint->AllowedMask(), token);
}

}  // namespace tessera::coordinator
