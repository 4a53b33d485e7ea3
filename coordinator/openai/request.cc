#include "coordinator/openai/request.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/validate.h"
#include "coordinator/openai/chat_fields.h"
#include "coordinator/openai/json_input.h"
#include "coordinator/openai/sampling_fields.h"
#include "proto/base/status_macros.h"
#include "proto/model/sampling_fields.h"

namespace tessera::coordinator {
namespace {

using nlohmann::json;

constexpr size_t kMaxIds = kMaxJsonValues;
constexpr size_t kMaxSamplingBytes = size_t{32} << 20;  // each prompt gets its copy

// What both endpoints have beside the prompt and the sampling.
struct CommonFields {
  std::string model;
  std::string request_id;
  std::optional<int32_t> priority;
};

CommonFields ReadCommon(JsonFields& fields, const RequestContext& context, AnswerStyle* style) {
  CommonFields common;
  common.model = ModelName(fields.String("model").value_or(""));
  common.request_id = fields.String("request_id").value_or(context.request_id);
  common.priority = fields.Int("priority");
  style->model = common.model;
  style->id = absl::StrCat(style->chat ? "chatcmpl-" : "cmpl-", common.request_id);
  style->created = context.created;
  style->stream = fields.Bool("stream").value_or(false);
  const json* options = fields.Object("stream_options");
  if (options != nullptr) {
    JsonFields inner(*options, "stream_options.");
    style->include_usage = inner.Bool("include_usage").value_or(false) && style->stream;
    fields.Adopt(inner.status());
    if (!style->stream) fields.Fail("stream_options", "is allowed with \"stream\": true alone");
  }
  RefuseUnsupported(fields);
  return common;
}

void FinishStyle(JsonFields& fields, const v1::SamplingOptions& sampling, AnswerStyle* style) {
  style->n = sampling.has_n() ? sampling.n() : static_cast<int>(*model::kN.standard);
  style->prompt_logprobs = sampling.has_prompt_logprobs();
  if (style->prompt_logprobs && style->stream) {
    fields.Fail("prompt_logprobs", "is not available with \"stream\": true");
  }
  if (int64_t{style->n} * style->prompts > kMaxChoices) {
    fields.Fail("n", absl::StrCat("times ", style->prompts, " prompts is over ", kMaxChoices,
                                  " choices; send several requests"));
  }
  if (sampling.ByteSizeLong() * static_cast<size_t>(style->prompts) > kMaxSamplingBytes) {
    fields.Fail("prompt", absl::StrCat("count times the size of the other fields is over ",
                                       kMaxSamplingBytes, " bytes; send several requests"));
  }
  if (const json* best_of = fields.Any("best_of")) {
    if (JsonInt32(*best_of) != style->n) {
      fields.Fail("best_of", "is not supported unless it equals n");
    }
  }
}

void ReadIds(JsonFields& fields, const json& list, const std::string& name,
             v1::GenerateRequest* request) {
  for (size_t i = 0; i < list.size(); ++i) {
    const std::optional<int32_t> id = JsonInt32(list[i]);
    if (!id) {
      return fields.Fail(absl::StrCat(name, "[", i, "]"),
                         absl::StrCat("is ", JsonTypeName(list[i]), "; expected a token id"));
    }
    request->mutable_token_ids()->add_ids(*id);
  }
}

// A string, strings, token ids, or lists of token ids.
std::vector<v1::GenerateRequest> ReadPrompts(JsonFields& fields) {
  std::vector<v1::GenerateRequest> prompts;
  const json* prompt = fields.Any("prompt");
  if (prompt == nullptr) {
    fields.Fail("prompt", "is missing");
  } else if (prompt->is_string()) {
    prompts.emplace_back().set_text(prompt->get<std::string>());
  } else if (!prompt->is_array()) {
    fields.Fail("prompt", absl::StrCat("is ", JsonTypeName(*prompt),
                                       "; expected a string, strings, token ids or lists of them"));
  } else if (prompt->empty()) {
    fields.Fail("prompt", "is empty");
  } else if (prompt->front().is_number()) {
    ReadIds(fields, *prompt, "prompt", &prompts.emplace_back());
  } else if (prompt->size() > static_cast<size_t>(kMaxPrompts)) {
    fields.Fail("prompt",
                absl::StrCat("has ", prompt->size(), " prompts; at most ", kMaxPrompts));
  } else {
    for (size_t i = 0; i < prompt->size(); ++i) {
      const json& one = (*prompt)[i];
      const std::string name = absl::StrCat("prompt[", i, "]");
      if (one.is_string() && prompt->front().is_string()) {
        prompts.emplace_back().set_text(one.get<std::string>());
      } else if (one.is_array() && !one.empty() && prompt->front().is_array()) {
        ReadIds(fields, one, name, &prompts.emplace_back());
      } else {
        fields.Fail(name, absl::StrCat("is ", JsonTypeName(one), one.empty() ? " and empty" : "",
                                       "; expected all strings or all lists of token ids"));
        break;
      }
    }
  }
  return prompts;
}

// A completion's echo: the prompt's text before the output, its logprobs too where asked for.
void ReadEcho(JsonFields& fields, AnswerStyle* style, v1::SamplingOptions* sampling) {
  style->echo = fields.Bool("echo").value_or(false);
  if (!style->echo) return;
  if (sampling->has_logprobs() && !sampling->has_prompt_logprobs()) {
    sampling->set_prompt_logprobs(sampling->logprobs());
  }
  if (sampling->has_max_tokens() && sampling->max_tokens() == 0) {
    style->drop_output = true;  // one token is computed and not shown
    sampling->set_max_tokens(1);
  }
}

void ReadChatLogprobs(JsonFields& fields, AnswerStyle* style, v1::SamplingOptions* sampling) {
  style->logprobs = fields.Bool("logprobs").value_or(false);
  const std::optional<int32_t> top = fields.Int("top_logprobs");
  if (style->logprobs && !model::Allows(model::kTopLogprobs, top.value_or(0))) {
    fields.Fail("top_logprobs", model::WhyRefused(model::kTopLogprobs, *top));
  } else if (style->logprobs) {
    sampling->set_logprobs(top.value_or(0));
  } else if (top && *top != 0) {
    fields.Fail("top_logprobs", "needs \"logprobs\": true");
  }
}

}  // namespace

std::string ModelName(absl::string_view name) {
  return name == "default" ? "" : std::string(name);
}

absl::StatusOr<OpenAiRequest> ParseCompletion(absl::string_view body,
                                                  const RequestContext& context) {
  TESSERA_ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  JsonFields fields(object);
  OpenAiRequest request;
  AnswerStyle& style = request.style;
  const CommonFields common = ReadCommon(fields, context, &style);
  v1::SamplingOptions sampling;
  ReadSampling(fields, &sampling);
  sampling.set_max_tokens(fields.Int("max_tokens").value_or(model::kCompletionTokens));
  if (auto logprobs = fields.Int("logprobs")) sampling.set_logprobs(*logprobs);
  style.logprobs = sampling.has_logprobs();
  if (!fields.String("suffix").value_or("").empty()) {
    fields.Fail("suffix", "is not supported: models of this server do not fill in the middle");
  }
  request.prompts = ReadPrompts(fields);
  style.prompts = static_cast<int>(request.prompts.size());
  FinishStyle(fields, sampling, &style);
  ReadEcho(fields, &style, &sampling);
  const std::optional<bool> add_special_tokens = fields.Bool("add_special_tokens");
  TESSERA_RETURN_IF_ERROR(fields.status());

  for (size_t i = 0; i < request.prompts.size(); ++i) {
    v1::GenerateRequest& one = request.prompts[i];
    one.set_model(common.model);
    one.set_request_id(style.prompts == 1 ? common.request_id
                                          : absl::StrCat(common.request_id, "-", i));
    if (common.priority) one.set_priority(*common.priority);
    if (add_special_tokens) one.set_add_special_tokens(*add_special_tokens);
    *one.mutable_sampling() = sampling;
  }
  return request;
}

absl::StatusOr<OpenAiRequest> ParseChatCompletion(absl::string_view body,
                                                      const RequestContext& context) {
  TESSERA_ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  JsonFields fields(object);
  OpenAiRequest request;
  AnswerStyle& style = request.style;
  style.chat = true;
  const CommonFields common = ReadCommon(fields, context, &style);
  v1::ChatRequest& chat = request.chat.emplace();
  v1::SamplingOptions* sampling = chat.mutable_sampling();
  ReadChatPrompt(fields, &chat);
  ReadSampling(fields, sampling);
  const std::optional<int32_t> max_tokens = fields.Int("max_tokens");
  const std::optional<int32_t> max_completion_tokens = fields.Int("max_completion_tokens");
  if (max_completion_tokens) {
    sampling->set_max_tokens(*max_completion_tokens);
  } else if (max_tokens) {
    sampling->set_max_tokens(*max_tokens);
  }
  ReadChatLogprobs(fields, &style, sampling);
  FinishStyle(fields, *sampling, &style);
  if (fields.Bool("echo").value_or(false)) fields.Fail("echo", "is of /v1/completions alone");
  TESSERA_RETURN_IF_ERROR(fields.status());

  chat.set_model(common.model);
  chat.set_request_id(common.request_id);
  if (common.priority) chat.set_priority(*common.priority);
  return request;
}

absl::StatusOr<TokenizeCall> ParseTokenize(absl::string_view body) {
  TESSERA_ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  JsonFields fields(object);
  TokenizeCall call;
  const std::string model = ModelName(fields.String("model").value_or(""));
  call.return_token_strs = fields.Bool("return_token_strs").value_or(false);
  if (fields.Any("messages") != nullptr) {
    ReadChatPrompt(fields, &call.chat.emplace());
    call.chat->set_model(model);
  } else if (auto prompt = fields.String("prompt")) {
    call.text.set_text(*std::move(prompt));
    call.text.set_model(model);
    if (auto add = fields.Bool("add_special_tokens")) call.text.set_add_special_tokens(*add);
    if (auto parse = fields.Bool("parse_special")) call.text.set_parse_special(*parse);
  } else {
    fields.Fail("prompt", "is missing; expected prompt or messages");
  }
  TESSERA_RETURN_IF_ERROR(fields.status());
  return call;
}

absl::StatusOr<v1::DetokenizeRequest> ParseDetokenize(absl::string_view body) {
  TESSERA_ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  JsonFields fields(object);
  v1::DetokenizeRequest request;
  request.set_model(ModelName(fields.String("model").value_or("")));
  const std::optional<std::vector<int32_t>> tokens = fields.Ints("tokens", kMaxIds);
  if (!tokens) fields.Fail("tokens", "is missing");
  if (auto skip = fields.Bool("skip_special_tokens")) request.set_skip_special_tokens(*skip);
  TESSERA_RETURN_IF_ERROR(fields.status());
  request.mutable_ids()->Add(tokens->begin(), tokens->end());
  return request;
}

}  // namespace tessera::coordinator
