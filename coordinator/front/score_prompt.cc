#include "coordinator/front/score_prompt.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/front/prompt.h"
#include "coordinator/engine/validate.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Ids = std::vector<int32_t>;

bool AddsBos(const v1::ScoreRequest& request) {
  return !request.has_add_special_tokens() || request.add_special_tokens();
}

// The prompt's own ids; BOS alone where there is no prompt.
absl::StatusOr<Ids> ContextIds(const v1::ScoreRequest& request, const ServedModel& model) {
  switch (request.prompt_case()) {
    case v1::ScoreRequest::kTokenIds:
      return Ids(request.token_ids().ids().begin(), request.token_ids().ids().end());
    case v1::ScoreRequest::kText:
      return EncodePrompt({.text = request.text(), .add_bos = AddsBos(request)}, "prompt", model);
    case v1::ScoreRequest::PROMPT_NOT_SET:
      break;
  }
  const v1::TokenizerDescription& tokenizer = model.description.tokenizer();
  if (tokenizer.has_bos_id()) return Ids{tokenizer.bos_id()};
  return wire::FieldError("prompt", "is missing; this model has no BOS token to begin with");
}

// How many ids both begin with.
size_t CommonPrefix(const Ids& a, const Ids& b) {
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

class ScorePromptMaker {
 public:
  ScorePromptMaker(const v1::ScoreRequest& request, const ServedModel& model, Ids context)
      : request_(request), model_(model), context_(std::move(context)) {}

  absl::StatusOr<ScorePrompt> Make(const v1::ScoreRequest::Continuation& continuation,
                                   const std::string& field) const {
    switch (continuation.value_case()) {
      case v1::ScoreRequest::Continuation::kTokenIds: {
        const auto& sent = continuation.token_ids().ids();
        const Ids ids(sent.begin(), sent.end());
        TESSERA_RETURN_IF_ERROR(CheckTokenIds(ids, absl::StrCat(field, ".token_ids.ids"),
                                              model_.description.architecture().vocab_size()));
        return Joined(ids, field);
      }
      case v1::ScoreRequest::Continuation::kText:
        if (continuation.text().empty()) return wire::FieldError(field, "is empty");
        return OfText(continuation.text(), field);
      case v1::ScoreRequest::Continuation::VALUE_NOT_SET:
        break;
    }
    return wire::FieldError(field, "is missing; expected text or token_ids");
  }

 private:
  absl::StatusOr<ScorePrompt> Joined(const Ids& continuation, const std::string& field) const {
    if (continuation.empty()) return wire::FieldError(field, "is empty");
    ScorePrompt prompt{.ids = context_, .from = static_cast<int>(context_.size())};
    prompt.ids.insert(prompt.ids.end(), continuation.begin(), continuation.end());
    return prompt;
  }

  absl::StatusOr<ScorePrompt> OfText(const std::string& text, const std::string& field) const {
    if (request_.prompt_case() != v1::ScoreRequest::kText) {
      TESSERA_ASSIGN_OR_RETURN(const Ids ids,
                               EncodePrompt({.text = text, .add_bos = false}, field, model_));
      return Joined(ids, field);
    }
    const std::string whole = absl::StrCat(request_.text(), text);
    ScorePrompt prompt;
    TESSERA_ASSIGN_OR_RETURN(
        prompt.ids, EncodePrompt({.text = whole, .add_bos = AddsBos(request_)}, field, model_));
    prompt.from = static_cast<int>(CommonPrefix(prompt.ids, context_));
    if (prompt.from == 0) {
      return wire::FieldError(field, "begins within the first token; nothing stands before it");
    }
    return prompt;
  }

  const v1::ScoreRequest& request_;
  const ServedModel& model_;
  const Ids context_;
};

}  // namespace

absl::StatusOr<std::vector<ScorePrompt>> ScorePrompts(const v1::ScoreRequest& request,
                                                      const ServedModel& model) {
  TESSERA_ASSIGN_OR_RETURN(Ids context, ContextIds(request, model));
  const PromptLimits limits = LimitsOf(model.description, model.plan);
  TESSERA_RETURN_IF_ERROR(CheckPrompt(context, "prompt", limits));
  const ScorePromptMaker maker(request, model, std::move(context));
  std::vector<ScorePrompt> prompts;
  const int64_t per_token = 1 + std::max(1, request.top_logprobs());
  size_t tokens = 0;
  int64_t told = 0;
  for (int i = 0; i < request.continuations_size(); ++i) {
    const std::string field = absl::StrCat("continuations[", i, "]");
    TESSERA_ASSIGN_OR_RETURN(ScorePrompt prompt, maker.Make(request.continuations(i), field));
    TESSERA_RETURN_IF_ERROR(CheckPrompt(prompt.ids, field, limits));
    tokens += prompt.ids.size();
    if (tokens > kMaxScoreTokens) {
      return wire::FieldError("continuations",
                              absl::StrCat("have more than ", kMaxScoreTokens,
                                           " tokens in all, each with the prompt"));
    }
    told += (static_cast<int64_t>(prompt.ids.size()) - prompt.from) * per_token;
    if (told > kMaxPromptLogprobs) {
      return wire::FieldError("continuations", absl::StrCat("ask for more than ", kMaxPromptLogprobs,
                                                            " log probabilities in all"));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace tessera::coordinator
