#include "coordinator/front/prompt.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/validate.h"
#include "coordinator/text/chat_prompt.h"
#include "coordinator/text/chat/renderer.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

absl::Status NeedTokenizer(const ServedModel& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("this model has no tokenizer; send token_ids");
}

// A shorter text is never refused unread.
constexpr size_t kAlwaysReadBytes = size_t{1} << 20;
// Of ids to turn into text: a few bytes of request must not become gigabytes of answer.
constexpr size_t kMostIds = size_t{1} << 17;
// How much longer a text may be than its normal form: NFC turns nine bytes of Hangul into three.
constexpr size_t kMostShrinking = 3;

// Refuses at once what would take long to encode and could not fit anyway.
absl::Status CheckTextBytes(absl::string_view text, absl::string_view field,
                            const ServedModel& model) {
  const PromptLimits limits = LimitsOf(model.description, model.plan);
  const size_t shrinking = model.description.tokenizer().normalize_nfc() ? kMostShrinking : 1;
  const size_t most = static_cast<size_t>(limits.context_tokens) *
                      model.tokenizer->longest_token_bytes() * shrinking;
  if (text.size() <= most) return absl::OkStatus();
  return wire::FieldError(field, absl::StrCat("has ", text.size(), " bytes; expected at most ",
                                              most, ", as much as the context of ",
                                              limits.context_tokens, " tokens can hold"));
}

absl::StatusOr<std::vector<int32_t>> Checked(std::vector<int32_t> ids, absl::string_view field,
                                             const ServedModel& model) {
  TESSERA_RETURN_IF_ERROR(CheckPrompt(ids, field, LimitsOf(model.description, model.plan)));
  return ids;
}

ChatInput ChatInputOf(const v1::ChatRequest& request) {
  ChatInput input;
  for (const v1::ChatMessage& message : request.messages()) {
    ChatInputMessage& added = input.messages.emplace_back();
    added.role = message.role();
    added.content = message.content();
    if (message.has_name()) added.name = message.name();
    added.tool_calls_json = message.tool_calls_json();
    if (message.has_tool_call_id()) added.tool_call_id = message.tool_call_id();
  }
  input.tools_json.assign(request.tools_json().begin(), request.tools_json().end());
  input.template_kwargs_json = request.chat_template_kwargs_json();
  return input;
}

void Tell(absl::Span<const int32_t> ids, const Tokenizer& tokenizer,
          v1::TokenizeResponse* response) {
  for (const int32_t id : ids) {
    response->add_ids(id);
    response->add_tokens(tokenizer.TokenBytes(id));
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ServedModel>> ModelOf(
    const std::string& requested, const std::vector<std::shared_ptr<const ServedModel>>& models) {
  if (requested.empty() || requested == "default") return models.front();
  std::string names;
  for (const std::shared_ptr<const ServedModel>& model : models) {
    if (model->name == requested) return model;
    absl::StrAppend(&names, names.empty() ? "" : ", ", Quoted(model->name));
  }
  return absl::NotFoundError(absl::StrCat("model ", Quoted(requested), " is not served; ", names,
                                          models.size() == 1 ? " is" : " are"));
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const PromptText& prompt, absl::string_view field,
                                                  const ServedModel& model) {
  TESSERA_RETURN_IF_ERROR(NeedTokenizer(model));
  TESSERA_RETURN_IF_ERROR(CheckTextBytes(prompt.text, field, model));
  const v1::TokenizerDescription& description = model.description.tokenizer();
  std::vector<int32_t> ids;
  if (prompt.add_bos && description.add_bos() && description.has_bos_id()) {
    ids.push_back(description.bos_id());
  }
  TESSERA_ASSIGN_OR_RETURN(
      std::vector<int32_t> body,
      model.tokenizer->Encode(
          prompt.text, {.add_special = false, .parse_special = true, .plain = prompt.plain}));
  ids.insert(ids.end(), body.begin(), body.end());
  return ids;
}

absl::StatusOr<std::vector<int32_t>> PromptIds(const v1::GenerateRequest& request,
                                               const ServedModel& model) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kTokenIds: {
      const auto& ids = request.token_ids().ids();
      return Checked(std::vector<int32_t>(ids.begin(), ids.end()), "prompt", model);
    }
    case v1::GenerateRequest::kText: {
      if (request.text().empty()) {
        return wire::FieldError("prompt", "is empty; expected some text");
      }
      const bool add_bos = !request.has_add_special_tokens() || request.add_special_tokens();
      TESSERA_ASSIGN_OR_RETURN(
          std::vector<int32_t> ids,
          EncodePrompt({.text = request.text(), .add_bos = add_bos}, "prompt", model));
      return Checked(std::move(ids), "prompt", model);
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return wire::FieldError("prompt", "is missing; expected text or token_ids");
}

absl::StatusOr<std::vector<int32_t>> PromptIds(const v1::ChatRequest& request,
                                               const ServedModel& model) {
  TESSERA_RETURN_IF_ERROR(NeedTokenizer(model));
  if (request.messages().empty()) {
    return wire::FieldError("messages", "is empty; expected at least one message");
  }
  if (!model.chat.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this model cannot chat (", model.chat.status().message(), "); use Generate"));
  }
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt prompt, (*model.chat)->Render(ChatInputOf(request)));
  // Some templates write BOS themselves; the model must see it once.
  const v1::TokenizerDescription& tokenizer = model.description.tokenizer();
  const bool has_bos = tokenizer.has_bos_id() &&
                       prompt.text().starts_with(model.tokenizer->TokenBytes(tokenizer.bos_id()));
  TESSERA_ASSIGN_OR_RETURN(
      std::vector<int32_t> ids,
      EncodePrompt({.text = prompt.text(), .plain = prompt.contents(), .add_bos = !has_bos},
                   "messages", model));
  return Checked(std::move(ids), "messages", model);
}

absl::Status Tokenize(const v1::TokenizeRequest& request, const ServedModel& model,
                      v1::TokenizeResponse* response) {
  TESSERA_RETURN_IF_ERROR(NeedTokenizer(model));
  if (request.text().size() > kAlwaysReadBytes) {
    TESSERA_RETURN_IF_ERROR(CheckTextBytes(request.text(), "text", model));
  }
  const bool add_special = !request.has_add_special_tokens() || request.add_special_tokens();
  TESSERA_ASSIGN_OR_RETURN(
      const std::vector<int32_t> ids,
      model.tokenizer->Encode(
          request.text(), {.add_special = add_special, .parse_special = request.parse_special()}));
  Tell(ids, *model.tokenizer, response);
  return absl::OkStatus();
}

absl::Status TokenizeChat(const v1::ChatRequest& request, const ServedModel& model,
                          v1::TokenizeResponse* response) {
  TESSERA_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, PromptIds(request, model));
  Tell(ids, *model.tokenizer, response);
  return absl::OkStatus();
}

absl::Status Detokenize(const v1::DetokenizeRequest& request, const ServedModel& model,
                        v1::DetokenizeResponse* response) {
  TESSERA_RETURN_IF_ERROR(NeedTokenizer(model));
  const absl::Span<const int32_t> ids(request.ids().data(),
                                      static_cast<size_t>(request.ids_size()));
  const size_t most = std::max(kMostIds, static_cast<size_t>(model.plan.max_model_len()));
  if (ids.size() > most) {
    return wire::FieldError("ids",
                            absl::StrCat("has ", ids.size(), " entries; expected at most ", most));
  }
  TESSERA_RETURN_IF_ERROR(CheckTokenIds(ids, "ids", model.description.architecture().vocab_size()));
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  response->set_text(model.tokenizer->Decode(ids, skip));
  return absl::OkStatus();
}

v1::ModelInfo InfoOf(const ServedModel& model) {
  v1::ModelInfo info;
  info.set_name(model.name);
  info.set_family(model.description.architecture().family());
  info.set_quantization(model.description.quantization());
  info.set_max_model_len(model.plan.max_model_len());
  int64_t bytes = 0;
  for (const v1::TensorDescription& tensor : model.description.tensors()) {
    bytes += tensor.resident_bytes();
  }
  info.set_weight_bytes(bytes);
  info.set_vocab_size(model.description.architecture().vocab_size());
  if (model.chat.ok()) info.set_chat_format((*model.chat)->description());
  return info;
}

}  // namespace tessera::coordinator
