#include "coordinator/http/routes.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "coordinator/http/completion_call.h"
#include "coordinator/http/error_responses.h"
#include "coordinator/openai/json_writer.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr absl::string_view kModelPath = "/v1/models/";

std::string PercentDecoded(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint32_t byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        absl::SimpleHexAtoi(text.substr(i + 1, 2), &byte)) {
      out.push_back(static_cast<char>(byte));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

HttpResponse Preflight(absl::string_view method) {
  return {.status = 204,
          .headers = {{"Allow", absl::StrCat(method, ", OPTIONS")},
                      {"Access-Control-Allow-Methods", absl::StrCat(method, ", OPTIONS")},
                      {"Access-Control-Allow-Headers", "*, Authorization"},
                      {"Access-Control-Max-Age", "600"}}};
}

int32_t MaxModelLen(const FrontDoor& front, const std::string& model) {
  const v1::ListModelsResponse models = front.ListModels();
  for (const v1::ModelInfo& info : models.models()) {
    if (model.empty() || info.name() == model) return info.max_model_len();
  }
  return 0;
}

HttpResponse TokenizeAnswer(const v1::TokenizeResponse& tokens, int32_t max_model_len,
                            bool token_strs) {
  std::string out;
  JsonWriter(out).Object([&](JsonWriter& w) {
    w.Key("count").Int(tokens.ids_size());
    w.Key("max_model_len").Int(max_model_len);
    w.Key("tokens").Array([&](JsonWriter& list) {
      for (const int32_t id : tokens.ids()) list.Int(id);
    });
    w.Key("token_strs");
    if (!token_strs) return w.Null();
    w.Array([&](JsonWriter& list) {
      for (const std::string& token : tokens.tokens()) list.String(token);
    });
  });
  return HttpResponse::Json(200, std::move(out));
}

}  // namespace

Routes::Routes(const HttpDoorContext& context, std::shared_ptr<TextWorker> worker)
    : context_(context), worker_(std::move(worker)), started_(absl::ToUnixSeconds(absl::Now())) {}

const Routes::Route* Routes::Find(absl::string_view path) {
  static constexpr Route kRoutes[] = {
      {"/health", "GET", false, &Routes::Health},
      {"/version", "GET", false, &Routes::Version},
      {"/metrics", "GET", false, &Routes::ServeMetrics},
      {"/v1/models", "GET", true, &Routes::ListModels},
      {kModelPath, "GET", true, &Routes::OneModel},
      {"/v1/completions", "POST", true, &Routes::Completions},
      {"/v1/chat/completions", "POST", true, &Routes::ChatCompletions},
      {"/tokenize", "POST", true, &Routes::Tokenize},
      {"/detokenize", "POST", true, &Routes::Detokenize},
  };
  for (const Route& route : kRoutes) {
    if (path == route.path) return &route;
    if (route.path == kModelPath && absl::StartsWith(path, kModelPath)) return &route;
  }
  return nullptr;
}

std::optional<HttpResponse> Routes::CheckHead(const HttpRequest& head) const {
  const Route* route = Find(head.path());
  if (route == nullptr) {
    return HttpErrorResponse(
        404, absl::StrCat("Unknown request URL: ", head.method, " ", head.path().substr(0, 256)));
  }
  if (head.method == "OPTIONS") return Preflight(route->method);
  const bool as_get = head.method == "HEAD" && route->method == "GET";
  if (head.method != route->method && !as_get) {
    HttpResponse refusal = HttpErrorResponse(
        405, absl::StrCat("Not allowed: ", head.method.substr(0, 64), " ", route->path, "; use ",
                          route->method));
    refusal.headers.push_back({"Allow", absl::StrCat(route->method, ", OPTIONS")});
    return refusal;
  }
  if (route->needs_key) {
    const absl::StatusOr<Caller> caller = CallerOf(head);
    if (!caller.ok()) return ErrorResponse(caller.status());
  }
  const absl::string_view encoding = head.header("Content-Encoding");
  if (!encoding.empty() && !absl::EqualsIgnoreCase(encoding, "identity")) {
    return HttpErrorResponse(415, "compressed bodies are not read; send the JSON as it is");
  }
  if (absl::StartsWithIgnoreCase(head.header("Content-Type"), "multipart/")) {
    return HttpErrorResponse(415, "forms are not read; send application/json");
  }
  return std::nullopt;
}

absl::StatusOr<Caller> Routes::CallerOf(const HttpRequest& request) const {
  Caller caller;
  TESSERA_ASSIGN_OR_RETURN(caller.tenant, context_.access->Admit(request.header("Authorization"),
                                                                 request.header("X-Tenant-Id")));
  const absl::string_view timeout = request.header("X-Request-Timeout");
  if (!timeout.empty()) {
    double seconds = 0;
    if (!absl::SimpleAtod(timeout, &seconds) || !(seconds > 0)) {
      return wire::FieldError("X-Request-Timeout", "is not a positive number of seconds");
    }
    caller.deadline = absl::Now() + absl::Seconds(seconds);
  }
  return caller;
}

void Routes::Handle(HttpRequest request, const Responder& responder) {
  const Route* route = Find(request.path());
  (this->*route->handle)(std::move(request), responder);
}

void Routes::Health(HttpRequest&& /*request*/, const Responder& responder) {
  if (context_.front->serving()) return responder->Send(HttpResponse::Json(200, R"({"status":"ok"})"));
  responder->Send(HttpErrorResponse(503, "no model is served now"));
}

void Routes::Version(HttpRequest&& /*request*/, const Responder& responder) {
  responder->Send(HttpResponse::Json(
      200, absl::StrCat("{\"version\":", JsonQuoted(TESSERA_VERSION), "}")));
}

void Routes::ServeMetrics(HttpRequest&& /*request*/, const Responder& responder) {
  responder->Send({.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
                   .body = context_.metrics == nullptr ? "" : context_.metrics->Serialize()});
}

std::string Routes::ModelObject(const v1::ModelInfo& model) const {
  std::string out;
  JsonWriter(out).Object([&](JsonWriter& w) {
    w.Key("id").String(model.name());
    w.Key("object").String("model");
    w.Key("created").Int(started_);
    w.Key("owned_by").String("tessera");
    w.Key("root").String(model.name());
    w.Key("parent").Null();
    w.Key("max_model_len").Int(model.max_model_len());
  });
  return out;
}

void Routes::ListModels(HttpRequest&& /*request*/, const Responder& responder) {
  const v1::ListModelsResponse models = context_.front->ListModels();
  std::string list;
  for (const v1::ModelInfo& model : models.models()) {
    absl::StrAppend(&list, list.empty() ? "" : ",", ModelObject(model));
  }
  responder->Send(
      HttpResponse::Json(200, absl::StrCat("{\"object\":\"list\",\"data\":[", list, "]}")));
}

void Routes::OneModel(HttpRequest&& request, const Responder& responder) {
  const std::string name = PercentDecoded(request.path().substr(kModelPath.size()));
  const v1::ListModelsResponse models = context_.front->ListModels();
  for (const v1::ModelInfo& model : models.models()) {
    if (model.name() == name || name == "default") {
      return responder->Send(HttpResponse::Json(200, ModelObject(model)));
    }
  }
  responder->Send(ErrorResponse(
      absl::NotFoundError(absl::StrCat("the model ", JsonQuoted(name), " does not exist"))));
}

// Bodies beyond a few kilobytes are parsed off the server's thread.
void Routes::RunOnBody(HttpRequest request, const Responder& responder,
                       std::function<void(const HttpRequest& request)> work) {
  const size_t bytes = request.body.size();
  auto shared = std::make_shared<HttpRequest>(std::move(request));
  if (!worker_->Run(bytes, [shared, work = std::move(work)] { work(*shared); })) {
    responder->Send(HttpErrorResponse(503, "too many large requests at once; try again"));
  }
}

void Routes::Complete(HttpRequest request, const Responder& responder, Parse parse) {
  RequestContext parse_context{.request_id = std::string(request.header("X-Request-Id")),
                               .created = absl::ToUnixSeconds(absl::Now())};
  if (parse_context.request_id.empty()) parse_context.request_id = DrawId();
  RunOnBody(std::move(request), responder, [=, this](const HttpRequest& whole) {
    absl::StatusOr<Caller> caller = CallerOf(whole);
    if (!caller.ok()) return responder->Send(ErrorResponse(caller.status()));
    absl::StatusOr<OpenAiRequest> parsed = parse(whole.body, parse_context);
    if (!parsed.ok()) return responder->Send(ErrorResponse(parsed.status()));
    CompletionCall::Start(
        *std::move(parsed),
        {.front = context_.front, .worker = worker_, .caller = *std::move(caller)}, responder);
  });
}

void Routes::Completions(HttpRequest&& request, const Responder& responder) {
  Complete(std::move(request), responder, &ParseCompletion);
}

void Routes::ChatCompletions(HttpRequest&& request, const Responder& responder) {
  Complete(std::move(request), responder, &ParseChatCompletion);
}

void Routes::Tokenize(HttpRequest&& request, const Responder& responder) {
  RunOnBody(std::move(request), responder, [responder, front = context_.front](const HttpRequest& whole) {
    absl::StatusOr<TokenizeCall> call = ParseTokenize(whole.body);
    if (!call.ok()) return responder->Send(ErrorResponse(call.status()));
    const std::string model = call->chat ? call->chat->model() : call->text.model();
    const auto answer = [responder, strs = call->return_token_strs,
                         length = MaxModelLen(*front, model)](
                            const absl::StatusOr<v1::TokenizeResponse>& tokens) {
      responder->Send(tokens.ok() ? TokenizeAnswer(*tokens, length, strs)
                                  : ErrorResponse(tokens.status()));
    };
    if (call->chat) {
      front->TokenizeChat(*std::move(call->chat), answer);
    } else {
      front->Tokenize(std::move(call->text), answer);
    }
  });
}

void Routes::Detokenize(HttpRequest&& request, const Responder& responder) {
  RunOnBody(std::move(request), responder, [responder, front = context_.front](const HttpRequest& whole) {
    absl::StatusOr<v1::DetokenizeRequest> parsed = ParseDetokenize(whole.body);
    if (!parsed.ok()) return responder->Send(ErrorResponse(parsed.status()));
    front->Detokenize(*std::move(parsed),
                      [responder](const absl::StatusOr<v1::DetokenizeResponse>& text) {
                        if (!text.ok()) return responder->Send(ErrorResponse(text.status()));
                        responder->Send(HttpResponse::Json(
                            200, absl::StrCat("{\"prompt\":", JsonQuoted(text->text()), "}")));
                      });
  });
}

std::string Routes::DrawId() { return absl::StrFormat("%016x%016x", random_(), random_()); }

}  // namespace tessera::coordinator
