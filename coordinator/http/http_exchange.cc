#include "coordinator/http/http_exchange.h"

#include <utility>

namespace tessera::coordinator {

void HttpExchange::Answer(Reply reply) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (over_ || answered_) return;
    answered_ = true;
    reply_ = std::move(reply);
  }
  wake_();
}

void HttpExchange::OnGone(std::function<void()> gone) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (!over_) {
      gone_ = std::move(gone);
      return;
    }
    if (!abandoned_) return;
  }
  gone();
}

std::optional<HttpExchange::Reply> HttpExchange::Take() {
  std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(reply_, std::nullopt);
}

void HttpExchange::Complete() {
  std::function<void()> gone;  // declared first, destroyed after the lock: it may own much
  std::lock_guard<std::mutex> lock(mu_);
  over_ = true;
  gone.swap(gone_);
}

void HttpExchange::Abandon() {
  std::function<void()> gone;
  std::optional<Reply> reply;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (std::exchange(over_, true)) return;
    abandoned_ = true;
    gone.swap(gone_);
    reply.swap(reply_);
  }
  if (gone) gone();
}

}  // namespace tessera::coordinator
