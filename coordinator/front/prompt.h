// Requests → prompt ids, by the served model's tokenizer and chat template. Pure.
//
// Errors: INVALID_ARGUMENT naming the field; FAILED_PRECONDITION for text when the model has no
// tokenizer, and for Chat when it has no template that can be evaluated.
//
//   TESSERA_ASSIGN_OR_RETURN(std::vector<int32_t> ids, PromptIds(request, model));
#ifndef TESSERA_COORDINATOR_FRONT_PROMPT_H_
#define TESSERA_COORDINATOR_FRONT_PROMPT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// NOT_FOUND unless `requested` is empty, "default" or the served model's name.
absl::StatusOr<std::shared_ptr<const ServedModel>> ModelOf(
    const std::string& requested, const std::vector<std::shared_ptr<const ServedModel>>& models);

absl::StatusOr<std::vector<int32_t>> PromptIds(const v1::GenerateRequest& request,
                                               const ServedModel& model);
absl::StatusOr<std::vector<int32_t>> PromptIds(const v1::ChatRequest& request,
                                               const ServedModel& model);

// A prompt's text. Control tokens in it count as such, but for what stands in `plain`.
struct PromptText {
  absl::string_view text;
  absl::Span<const TextRange> plain = {};
  bool add_bos = true;  // where the model wants one
};

// Its ids, never EOS behind: the prompt is to be continued. What could not fit the context anyway
// is refused unread.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const PromptText& prompt, absl::string_view field,
                                                  const ServedModel& model);

absl::Status Tokenize(const v1::TokenizeRequest& request, const ServedModel& model,
                      v1::TokenizeResponse* response);
// The ids that Chat would send.
absl::Status TokenizeChat(const v1::ChatRequest& request, const ServedModel& model,
                          v1::TokenizeResponse* response);
absl::Status Detokenize(const v1::DetokenizeRequest& request, const ServedModel& model,
                        v1::DetokenizeResponse* response);

v1::ModelInfo InfoOf(const ServedModel& model);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_PROMPT_H_
