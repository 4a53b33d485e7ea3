#include "coordinator/http/http_exchange.h"

#include <utility>

namespace tessera::coordinator {

void HttpExchange::Answer(Reply reply) {
  {
    MutexLock lock(&mu_);
    if (over_ || answered_) return;
    answered_ = true;
    reply_ = std::move(reply);
  }
  wake_();
}

void HttpExchange::OnGone(std::function<void()> gone) {
  {
    MutexLock lock(&mu_);
    if (!over_) {
      gone_ = std::move(gone);
      return;
    }
    if (!abandoned_) return;
  }
  gone();
}

std::optional<HttpExchange::Reply> HttpExchange::Take() {
  MutexLock lock(&mu_);
  return std::exchange(reply_, std::nullopt);
}

void HttpExchange::Complete() {
  std::function<void()> gone;  // declared first, destroyed after the lock: it may own much
  MutexLock lock(&mu_);
  over_ = true;
  gone.swap(gone_);
}

void HttpExchange::Abandon() {
  std::function<void()> gone;
  std::optional<Reply> reply;
  {
    MutexLock lock(&mu_);
    if (std::exchange(over_, true)) return;
    abandoned_ = true;
    gone.swap(gone_);
    reply.swap(reply_);
  }
  if (gone) gone();
}

}  // namespace tessera::coordinator
