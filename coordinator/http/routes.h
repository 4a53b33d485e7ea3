// The paths of the HTTP door: who may call what with which method, and what each does. Handlers run
// on the server's thread and return at once.
//
//   Routes routes(context, worker);
//   if (auto refusal = routes.CheckHead(head)) ...
//   routes.Handle(std::move(request), responder);
#ifndef TESSERA_COORDINATOR_HTTP_ROUTES_H_
#define TESSERA_COORDINATOR_HTTP_ROUTES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/front/text_worker.h"
#include "coordinator/http/http_door.h"
#include "coordinator/http/http_message.h"
#include "coordinator/http/http_server.h"
#include "coordinator/openai/request.h"

namespace tessera::coordinator {

class Routes {
 public:
  Routes(const HttpDoorContext& context, std::shared_ptr<TextWorker> worker);

  // Refuses by the head alone: unknown path or method, no key, a body of another kind; answers
  // OPTIONS.
  std::optional<HttpResponse> CheckHead(const HttpRequest& head) const;
  // A request whose head was not refused.
  void Handle(HttpRequest request, const std::shared_ptr<HttpResponder>& responder);

 private:
  using Responder = std::shared_ptr<HttpResponder>;
  struct Route {
    absl::string_view path;
    absl::string_view method;
    bool needs_key;
    void (Routes::*handle)(HttpRequest&& request, const Responder& responder);
  };
  static const Route* Find(absl::string_view path);

  void Health(HttpRequest&& request, const Responder& responder);
  void Version(HttpRequest&& request, const Responder& responder);
  void ServeMetrics(HttpRequest&& request, const Responder& responder);
  void ListModels(HttpRequest&& request, const Responder& responder);
  void OneModel(HttpRequest&& request, const Responder& responder);
  void Completions(HttpRequest&& request, const Responder& responder);
  void ChatCompletions(HttpRequest&& request, const Responder& responder);
  void Tokenize(HttpRequest&& request, const Responder& responder);
  void Detokenize(HttpRequest&& request, const Responder& responder);

  using Parse = absl::StatusOr<OpenAiRequest> (*)(absl::string_view body,
                                                      const RequestContext& context);
  void Complete(HttpRequest request, const Responder& responder, Parse parse);
  void RunOnBody(HttpRequest request, const Responder& responder,
                 std::function<void(const HttpRequest& request)> work);
  absl::StatusOr<Caller> CallerOf(const HttpRequest& request) const;
  std::string ModelObject(const v1::ModelInfo& model) const;
  std::string DrawId();

  const HttpDoorContext context_;
  const std::shared_ptr<TextWorker> worker_;
  const int64_t started_;  // seconds since 1970: the models' "created"
  std::mt19937_64 random_{std::random_device{}()};
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_ROUTES_H_
