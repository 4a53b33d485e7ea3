// One client's connection. Two coroutines on the server's thread: one reads what the client sends
// into a bounded buffer for as long as the connection lives, which is also how a client that leaves is
// noticed; the other parses, hands on and answers one request after the other.
//
// A part of http_server.cc, which alone includes it: Beast and Asio take long to compile.
//
//   std::make_shared<Connection>(std::move(socket), &shared)->Start();   // keeps itself alive
#ifndef TESSERA_COORDINATOR_HTTP_HTTP_CONNECTION_H_
#define TESSERA_COORDINATOR_HTTP_HTTP_CONNECTION_H_

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/http/body_lease.h"
#include "coordinator/http/http_exchange.h"
#include "coordinator/http/http_server.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator::http_internal {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using Parser = http::request_parser<http::string_body>;
using Task = asio::awaitable<void>;

inline constexpr size_t kReadBytes = size_t{64} << 10;   // of one read
inline constexpr size_t kBodyWindow = size_t{64} << 10;  // unparsed; a chunk's own head is far shorter
inline constexpr int kBodyTimeouts = 10;                 // body_timeout in all for one body
inline constexpr size_t kKeptOutput = size_t{16} << 10;  // larger buffers are given back
inline constexpr auto kUse = asio::as_tuple(asio::use_awaitable);
inline constexpr Clock::time_point kNever = Clock::time_point::max();

inline Clock::time_point After(absl::Duration timeout) {
  return Clock::now() + absl::ToChronoNanoseconds(timeout);
}

class Connection;

// Connections that other threads want looked at. One post wakes the server for many of them.
class WakeList : public std::enable_shared_from_this<WakeList> {
 public:
  explicit WakeList(asio::io_context* io) : io_(io) {}
  void Add(std::weak_ptr<Connection> connection) {
    MutexLock lock(&mu_);
    if (io_ == nullptr) return;
    waiting_.push_back(std::move(connection));
    if (waiting_.size() == 1) asio::post(*io_, [list = shared_from_this()] { list->Drain(); });
  }
  void Close() {  // the server goes
    MutexLock lock(&mu_);
    io_ = nullptr;
    waiting_.clear();
  }

 private:
  void Drain();

  Mutex mu_;
  asio::io_context* io_ ABSL_GUARDED_BY(mu_);
  std::vector<std::weak_ptr<Connection>> waiting_ ABSL_GUARDED_BY(mu_);
};

// What connections share. All but wakes and body_bytes are of the server's thread.
struct Shared {
  HttpServerOptions options;
  HttpHandlers handlers;
  std::shared_ptr<WakeList> wakes;
  std::shared_ptr<std::atomic<size_t>> body_bytes = std::make_shared<std::atomic<size_t>>(0);
  std::set<Connection*> connections = {};
  std::function<void()> connection_ended = {};
  bool draining = false;
  std::vector<char> scratch = std::vector<char>(kReadBytes);
  absl::Time date_at = absl::InfinitePast();
  std::string date = {};

  std::string_view Date() {
    if (const absl::Time now = absl::Now(); now - date_at >= absl::Seconds(1)) {
      date_at = now;
      date = absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", now, absl::UTCTimeZone());
    }
    return date;
  }
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Shared* shared)
      : shared_(shared),
        socket_(std::move(socket)),
        changed_(socket_.get_executor(), kNever),
        drained_(socket_.get_executor(), kNever) {
    shared_->connections.insert(this);
  }
  ~Connection() {
    shared_->connections.erase(this);
    shared_->connection_ended();
  }

  void Start() {
    auto self = shared_from_this();
    asio::co_spawn(socket_.get_executor(), ReadLoop(self), asio::detached);
    asio::co_spawn(socket_.get_executor(), Serve(self), asio::detached);
  }
  void Wake() { changed_.cancel(); }
  // Called now and then: enforces the deadline.
  void Tick(Clock::time_point now) {
    if (deadline_ > now) return;
    deadline_ = kNever;
    timed_out_ = true;
    if (writing_) Close();
    Wake();
  }
  void Close() {
    closed_ = true;
    error_code ignored;
    socket_.close(ignored);
    Wake();
    drained_.cancel();
  }
  std::atomic<bool> wake_queued = false;

 private:
  Task ReadLoop(std::shared_ptr<Connection> self);
  Task Serve(std::shared_ptr<Connection> self);
  asio::awaitable<bool> ServeOne();
  asio::awaitable<bool> ReadHead();
  asio::awaitable<bool> ReadBody();
  asio::awaitable<bool> Answer(HttpRequest request);
  // These three: whether the socket took the last byte. That makes the answer complete, even if the
  // connection was closed before its coroutine came to know of it.
  asio::awaitable<bool> SendStream(HttpResponse head, HttpBodySource* source);
  asio::awaitable<bool> SendWhole(HttpResponse response);
  asio::awaitable<bool> WriteAll();
  asio::awaitable<bool> Refuse(int status, std::string message);
  Task Wait();
  Task Linger();

  int ParseSome();
  HttpRequest TakeRequest();
  int CheckExpectation(bool* wants_continue) const;
  void AddCommonHeaders(HttpResponse& response) const {
    const std::vector<HttpHeader>& common = shared_->options.headers;
    response.headers.insert(response.headers.end(), common.begin(), common.end());
  }
  bool left() const { return eof_ || closed_; }
  bool goes_on() const { return keep_alive_ && !closed_; }  // with another request
  void Arm(absl::Duration timeout) {
    timed_out_ = false;
    deadline_ = After(timeout);
  }
  void Disarm() { deadline_ = kNever; }

  Shared* const shared_;
  tcp::socket socket_;
  asio::steady_timer changed_;  // cancelled to say: look again
  asio::steady_timer drained_;  // cancelled to say: the reader may go on
  beast::flat_buffer in_;       // sent by the client, not yet parsed
  size_t window_ = 0;           // the reader pauses when so much is in in_
  std::string out_;
  std::optional<Parser> parser_;
  std::shared_ptr<BodyLease> lease_;
  Clock::time_point deadline_ = kNever;
  bool timed_out_ = false;
  bool eof_ = false;      // the client sends no more, or is gone
  bool closed_ = false;
  bool writing_ = false;
  bool discarding_ = false;
  bool head_only_ = false;
  bool http_1_0_ = false;
  bool keep_alive_ = false;  // the client's wish, then what its answer said
};

inline void WakeList::Drain() {
  std::vector<std::weak_ptr<Connection>> woken;
  {
    MutexLock lock(&mu_);
    woken.swap(waiting_);
  }
  for (const auto& weak : woken) {
    if (auto connection = weak.lock()) {
      connection->wake_queued = false;  // before it looks, so that nothing is missed
      connection->Wake();
    }
  }
}

// Waits without a buffer, so that an idle connection owns none.
inline Task Connection::ReadLoop([[maybe_unused]] std::shared_ptr<Connection> self) {
  while (!closed_) {
    if (!discarding_ && in_.size() >= window_) {
      (void)co_await drained_.async_wait(kUse);
      continue;
    }
    auto [waited] = co_await socket_.async_wait(tcp::socket::wait_read, kUse);
    if (waited || closed_) break;
    error_code ec;
    const size_t n = socket_.read_some(asio::buffer(shared_->scratch), ec);
    if (ec == asio::error::would_block) continue;
    if (ec) break;
    if (!discarding_) {
      asio::buffer_copy(in_.prepare(n), asio::buffer(shared_->scratch.data(), n));
      in_.commit(n);
    }
    Wake();
  }
  eof_ = true;
  Wake();
}

inline Task Connection::Wait() {
  if (in_.size() < window_) drained_.cancel();
  (void)co_await changed_.async_wait(kUse);
}

inline Task Connection::Serve([[maybe_unused]] std::shared_ptr<Connection> self) {
  window_ = shared_->options.max_header_bytes + kReadBytes;
  drained_.cancel();
  bool open = true;  // GCC 12 miscompiles co_await in a loop's condition
  while (open) open = co_await ServeOne();
  if (!closed_) co_await Linger();
  Close();
}

// Closing while the client still sends would take the answer from it (RST): the rest is read and
// thrown away for a while.
inline Task Connection::Linger() {
  discarding_ = true;
  in_.clear();
  drained_.cancel();
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  Arm(shared_->options.linger_timeout);
  while (!left() && !timed_out_ && !shared_->draining) co_await Wait();
}

// False when the connection ends.
inline asio::awaitable<bool> Connection::ServeOne() {
  if (!co_await ReadHead()) co_return false;
  HttpRequest head = TakeRequest();
  if (shared_->handlers.check_head) {
    if (std::optional<HttpResponse> refusal = shared_->handlers.check_head(head)) {
      keep_alive_ = keep_alive_ && parser_->is_done();
      (void)co_await SendWhole(*std::move(refusal));
      co_return goes_on();
    }
  }
  bool wants_continue = false;
  if (CheckExpectation(&wants_continue) != 0) {
    co_return co_await Refuse(417, "the server knows no expectation but 100-continue");
  }
  if (wants_continue && in_.size() == 0) {
    out_ = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!co_await WriteAll() || closed_) co_return false;
  }
  if (!co_await ReadBody()) co_return false;
  head.body = std::move(parser_->get().body());
  head.body_lease = std::exchange(lease_, nullptr);
  parser_.reset();
  in_.shrink_to_fit();
  co_return co_await Answer(std::move(head));
}

// One step of the parser over what has arrived. 0, or the HTTP status of its refusal.
inline int Connection::ParseSome() {
  error_code ec;
  const size_t n = parser_->put(in_.data(), ec);
  in_.consume(n);
  if (ec == http::error::need_more) ec = {};
  if (!ec) return 0;
  if (ec == http::error::header_limit) return 431;
  if (ec == http::error::body_limit) return 413;
  if (ec == http::error::bad_version) return 505;
  return 400;
}

inline asio::awaitable<bool> Connection::ReadHead() {
  const HttpServerOptions& options = shared_->options;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(options.max_header_bytes));
  parser_->body_limit(options.max_body_bytes);
  head_only_ = http_1_0_ = keep_alive_ = false;
  bool begun = false;
  Arm(options.idle_timeout);
  while (!parser_->is_header_done()) {
    const char* bytes = static_cast<const char*>(in_.data().data());
    while (!begun && in_.size() > 0 && (*bytes == '\r' || *bytes == '\n')) {
      in_.consume(1);  // some clients end a body with a line break
      ++bytes;
    }
    if (in_.size() > 0) {
      if (!std::exchange(begun, true)) Arm(options.header_timeout);
      const size_t before = in_.size();
      const int refusal = ParseSome();
      if (refusal == 431 || (refusal == 0 && in_.size() >= options.max_header_bytes &&
                             !parser_->is_header_done())) {
        co_return co_await Refuse(
            431, absl::StrCat("the request's head is over ", options.max_header_bytes, " bytes"));
      }
      if (refusal == 413) {
        co_return co_await Refuse(
            413, absl::StrCat("the body is over ", options.max_body_bytes, " bytes"));
      }
      if (refusal != 0) co_return co_await Refuse(refusal, "this is not an HTTP/1.1 request");
      if (parser_->is_header_done() || in_.size() < before) continue;
    }
    if (left() || (!begun && shared_->draining)) co_return false;
    if (timed_out_) {
      if (!begun) co_return false;
      co_return co_await Refuse(408, "the request's head did not arrive in time");
    }
    co_await Wait();
  }
  Disarm();
  http_1_0_ = parser_->get().version() == 10;
  keep_alive_ = parser_->get().keep_alive();
  head_only_ = parser_->get().method() == http::verb::head;
  co_return true;
}

inline HttpRequest Connection::TakeRequest() {
  const auto& message = parser_->get();
  HttpRequest request{.method = std::string(message.method_string()),
                      .target = std::string(message.target())};
  for (const auto& field : message) {
    request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  }
  return request;
}

inline int Connection::CheckExpectation(bool* wants_continue) const {
  const auto expect = parser_->get()[http::field::expect];
  if (expect.empty() || http_1_0_) return 0;
  if (!absl::EqualsIgnoreCase(absl::string_view(expect.data(), expect.size()), "100-continue")) {
    return 417;
  }
  *wants_continue = !parser_->is_done();
  return 0;
}

inline asio::awaitable<bool> Connection::ReadBody() {
  const HttpServerOptions& options = shared_->options;
  lease_ = std::make_shared<BodyLease>(shared_->body_bytes);
  if (parser_->is_done()) co_return true;
  parser_->eager(true);
  bool room = lease_->Grow(parser_->content_length().value_or(0), options.max_bodies_bytes);
  const Clock::time_point last = After(kBodyTimeouts * options.body_timeout);
  Arm(options.body_timeout);
  while (!parser_->is_done()) {
    if (!room) {
      co_return co_await Refuse(503, "too many large requests at once; try again");
    }
    if (in_.size() > 0) {
      const size_t before = in_.size();
      const int refusal = ParseSome();
      if (refusal == 413) {
        co_return co_await Refuse(
            413, absl::StrCat("the body is over ", options.max_body_bytes, " bytes"));
      }
      if (refusal != 0 || (in_.size() == before && before >= kBodyWindow)) {
        co_return co_await Refuse(400, "the body's chunks are malformed");
      }
      room = lease_->Grow(parser_->get().body().size(), options.max_bodies_bytes);
      if (in_.size() < before) {
        Arm(options.body_timeout);
        deadline_ = std::min(deadline_, last);
        continue;
      }
    }
    if (parser_->is_done()) break;
    if (left()) co_return false;
    if (timed_out_) co_return co_await Refuse(408, "the body did not arrive in time");
    co_await Wait();
  }
  Disarm();
  co_return true;
}

inline asio::awaitable<bool> Connection::Answer(HttpRequest request) {
  std::weak_ptr<Connection> weak = weak_from_this();
  auto exchange = std::make_shared<HttpExchange>([weak, wakes = shared_->wakes] {
    auto connection = weak.lock();
    if (connection != nullptr && !connection->wake_queued.exchange(true)) wakes->Add(weak);
  });
  struct Guard {  // whatever ends this before Complete, the client has left
    HttpExchange* exchange;
    ~Guard() { exchange->Abandon(); }
  } guard{exchange.get()};

  shared_->handlers.handle(std::move(request), exchange);
  std::optional<HttpExchange::Reply> reply;
  while (!(reply = exchange->Take())) {
    if (left()) co_return false;
    co_await Wait();
  }
  bool sent;
  if (reply->source == nullptr) {
    sent = co_await SendWhole(std::move(reply->response));
  } else {
    sent = co_await SendStream(std::move(reply->response), reply->source.get());
  }
  if (sent) exchange->Complete();
  co_return goes_on();
}

inline asio::awaitable<bool> Connection::SendWhole(HttpResponse response) {
  keep_alive_ = keep_alive_ && !shared_->draining;
  AddCommonHeaders(response);
  out_ = FormatHead(response, {.keep_alive = keep_alive_, .date = shared_->Date()});
  if (!head_only_) out_.append(response.body);
  response = {};
  co_return co_await WriteAll();
}

inline asio::awaitable<bool> Connection::SendStream(HttpResponse head, HttpBodySource* source) {
  keep_alive_ = keep_alive_ && !http_1_0_ && !shared_->draining;
  const bool chunked = !http_1_0_;
  AddCommonHeaders(head);
  out_ = FormatHead(head, {.chunked = chunked,
                           .has_length = false,
                           .keep_alive = keep_alive_,
                           .date = shared_->Date()});
  std::string piece;
  bool ended = head_only_;
  while (true) {
    piece.clear();
    if (!ended) {
      ended = source->Fill(piece);
      if (chunked && !piece.empty()) {
        absl::StrAppend(&out_, absl::Hex(piece.size()), "\r\n", piece, "\r\n");
      } else {
        out_.append(piece);
      }
      if (chunked && ended) out_.append("0\r\n\r\n");
    }
    if (!out_.empty()) {
      if (!co_await WriteAll()) co_return false;
    } else if (!ended) {
      if (left()) {
        Close();
        co_return false;
      }
      co_await Wait();
    }
    if (ended) co_return true;
    if (piece.capacity() > kKeptOutput) piece = {};
  }
}

inline asio::awaitable<bool> Connection::Refuse(int status, std::string message) {
  keep_alive_ = false;  // what follows on the connection cannot be told apart
  HttpResponse response = shared_->handlers.make_error(status, message);
  (void)co_await SendWhole(std::move(response));
  co_return false;
}

// Sends out_ and empties it. False: the connection was closed before the socket took all of it.
inline asio::awaitable<bool> Connection::WriteAll() {
  size_t sent = 0;
  while (sent < out_.size() && !closed_) {
    Arm(shared_->options.write_timeout);
    writing_ = true;
    const auto [ec, n] = co_await socket_.async_write_some(
        asio::buffer(out_.data() + sent, out_.size() - sent), kUse);
    writing_ = false;
    if (ec) Close();
    sent += n;
  }
  Disarm();
  const bool taken = sent == out_.size();
  out_.clear();
  if (out_.capacity() > kKeptOutput) out_.shrink_to_fit();
  co_return taken;
}

}  // namespace tessera::coordinator::http_internal

#endif  // TESSERA_COORDINATOR_HTTP_HTTP_CONNECTION_H_
