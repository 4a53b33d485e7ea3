// One request's answer, between the threads that make it and the server's thread that sends it.
// Internal to the server.
//
//   auto exchange = std::make_shared<HttpExchange>([] { /* look at the connection again */ });
//   handler(request, exchange);
//   if (auto answer = exchange->Take()) ...
//   exchange->Complete();               // or Abandon(): the client has left
#ifndef TESSERA_COORDINATOR_HTTP_HTTP_EXCHANGE_H_
#define TESSERA_COORDINATOR_HTTP_HTTP_EXCHANGE_H_

#include <functional>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "coordinator/http/http_server.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

class HttpExchange final : public HttpResponder {
 public:
  // `wake` may be called from any thread.
  explicit HttpExchange(std::function<void()> wake) : wake_(std::move(wake)) {}

  void Send(HttpResponse response) override { Answer({std::move(response), nullptr}); }
  void Stream(HttpResponse head, std::shared_ptr<HttpBodySource> source) override {
    Answer({std::move(head), std::move(source)});
  }
  void Wake() override { wake_(); }
  void OnGone(std::function<void()> gone) override;

  struct Reply {
    HttpResponse response;                  // a head alone with a source
    std::shared_ptr<HttpBodySource> source;  // null: the response is whole
  };
  // The answer, once.
  std::optional<Reply> Take();
  // The answer is sent. After it or Abandon nothing is kept alive.
  void Complete();
  // The client has left; nothing after Complete.
  void Abandon();

 private:
  void Answer(Reply reply);

  const std::function<void()> wake_;
  Mutex mu_;
  std::optional<Reply> reply_ ABSL_GUARDED_BY(mu_);
  std::function<void()> gone_ ABSL_GUARDED_BY(mu_);
  bool answered_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;  // complete or abandoned
  bool abandoned_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_HTTP_EXCHANGE_H_
