#include "coordinator/front/prepare.h"

#include <algorithm>
#include <utility>

#include "coordinator/front/prompt.h"
#include "coordinator/front/score_prompt.h"
#include "coordinator/engine/validate.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// A raw prompt is continued; a chat's answer is a text of its own.
TextBefore BeforeAnswer(const v1::GenerateRequest&) { return TextBefore::kPrompt; }
TextBefore BeforeAnswer(const v1::ChatRequest&) { return TextBefore::kNothing; }

// A model without a grammar has no tokenizer either, which Submit says.
absl::Status Compile(const ServedModel& model, PreparedRequest& prepared) {
  if (!prepared.sampling.has_structured() || model.grammar == nullptr) return absl::OkStatus();
  TESSERA_ASSIGN_OR_RETURN(prepared.constraint,
                           model.grammar->Compile(prepared.sampling.structured()));
  return absl::OkStatus();
}

template <typename Request>
absl::StatusOr<PreparedRequest> PrepareStream(Request&& request, const ServedModel& model) {
  TESSERA_RETURN_IF_ERROR(CheckPriority(request.priority()));
  PreparedRequest prepared;
  TESSERA_ASSIGN_OR_RETURN(prepared.prompt_ids, PromptIds(request, model));
  prepared.text_before = BeforeAnswer(request);
  prepared.priority = request.priority();
  prepared.sampling = std::move(*request.mutable_sampling());
  TESSERA_RETURN_IF_ERROR(Compile(model, prepared));
  return prepared;
}

}  // namespace

absl::StatusOr<PreparedRequest> Prepare(v1::GenerateRequest&& request, const ServedModel& model) {
  return PrepareStream(std::move(request), model);
}

absl::StatusOr<PreparedRequest> Prepare(v1::ChatRequest&& request, const ServedModel& model) {
  return PrepareStream(std::move(request), model);
}

absl::StatusOr<std::vector<PreparedRequest>> Prepare(const v1::ScoreRequest& request,
                                                       const ServedModel& model) {
  TESSERA_RETURN_IF_ERROR(CheckPriority(request.priority()));
  TESSERA_RETURN_IF_ERROR(CheckScoreOptions(request));
  TESSERA_ASSIGN_OR_RETURN(std::vector<ScorePrompt> prompts, ScorePrompts(request, model));
  std::vector<PreparedRequest> prepared;
  for (ScorePrompt& prompt : prompts) {
    PreparedRequest& part = prepared.emplace_back();
    part.prompt_ids = std::move(prompt.ids);
    part.score_from = prompt.from;
    part.priority = request.priority();
    part.sampling.set_prompt_logprobs(std::max(1, request.top_logprobs()));
  }
  return prepared;
}

}  // namespace tessera::coordinator
