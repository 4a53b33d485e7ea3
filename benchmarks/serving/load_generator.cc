#include "benchmarks/serving/load_generator.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <csignal>
#include <exception>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmarks/serving/prompts.h"
#include "benchmarks/serving/sse_parser.h"
#include "proto/base/status_macros.h"

namespace tessera::benchmarks {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::awaitable;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);  // error codes, no exceptions
constexpr size_t kReadBytes = 4096;                           // in every stream's frame
constexpr size_t kMaxErrorBodyBytes = size_t{1} << 20;
constexpr double kEstimatedTokensPerWord = 1.0;

// A status of 0: no answer; `error` says why.
struct Answer {
  int status = 0;
  error_code error;
  std::string body;
};

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

class LoadRun {
 public:
  explicit LoadRun(const LoadOptions& options) : options_(options), signals_(io_), ticker_(io_) {}

  absl::StatusOr<LoadResult> Run();

 private:
  struct Connection {
    explicit Connection(asio::io_context& io) : stream(io) {}
    beast::tcp_stream stream;
    beast::flat_buffer buffer;  // bytes read past the last answer's end
    bool used = false;          // has carried a request before
  };

  // Where the conversations of one workload come from.
  struct Source {
    const Workload* workload = nullptr;
    int index = 0;
    PromptSource prompts;
    int64_t next = 0;
    Clock::time_point begin;  // start_s included
  };

  // Runs one coroutine and all it spawned to the end.
  void RunToEnd(awaitable<void> work);
  void Spawn(awaitable<void> work);

  absl::Status Prepare();
  awaitable<void> Prelude();  // sets prelude_status_
  awaitable<void> FindModel();
  awaitable<void> Calibrate();
  awaitable<void> Probe();
  awaitable<void> WarmUp();

  awaitable<void> Measure();
  awaitable<void> RunWorkload(Source& source);
  awaitable<void> Client(Source& source);
  awaitable<void> Arrivals(Source& source);
  awaitable<void> Conversation(Source& source, Phase phase, int64_t index);
  awaitable<void> Tick();
  bool MayBegin(const Source& source) const;

  // Sends a request and hands the answer's body to `on_body` as it comes; with a status other than
  // 200 it goes to `answer.body`.
  using OnBody = std::function<bool(absl::string_view)>;  // false: enough, hang up
  awaitable<Answer> Exchange(http::verb verb, std::string path, std::string body,
                             const Workload* workload, OnBody on_body);
  awaitable<Answer> TryExchange(Connection& connection,
                                const http::request<http::string_body>& request,
                                const OnBody& on_body, bool& keep_alive);
  awaitable<error_code> Connect(Connection& connection);
  // Appends the answer's text to `text`.
  awaitable<void> Stream(const Workload& workload, std::string body, RequestRecord& record,
                         std::string& text);

  double Now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  const LoadOptions& options_;
  asio::io_context io_{1};
  asio::signal_set signals_;
  asio::steady_timer ticker_;
  asio::ip::tcp::resolver::results_type endpoints_;
  std::vector<std::unique_ptr<Connection>> idle_;
  std::vector<Source> sources_;
  BodyOptions body_;
  absl::Status prelude_status_;
  Clock::time_point begin_ = Clock::now();
  int running_ = 0;  // coroutines
  bool measuring_ = false;
  LoadProgress progress_;
  LoadResult result_;
};

absl::StatusOr<LoadResult> LoadRun::Run() {
  error_code error;
  asio::ip::tcp::resolver resolver(io_);
  endpoints_ = resolver.resolve(options_.target.host, options_.target.port, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot resolve '", options_.target.host, "': ", error.message()));
  }
  TESSERA_RETURN_IF_ERROR(Prepare());
  if (!result_.interrupted) RunToEnd(WarmUp());
  if (!result_.interrupted) RunToEnd(Measure());
  result_.model = body_.model;
  return std::move(result_);
}

absl::Status LoadRun::Prepare() {
  body_.model = options_.model;
  RunToEnd(Prelude());
  TESSERA_RETURN_IF_ERROR(prelude_status_);
  for (size_t i = 0; i < options_.workloads.size(); ++i) {
    TESSERA_ASSIGN_OR_RETURN(
        PromptSource prompts,
        PromptSource::Create(options_.workloads[i], options_.seed, result_.tokens_per_word));
    sources_.push_back({.workload = &options_.workloads[i],
                        .index = static_cast<int>(i),
                        .prompts = std::move(prompts),
                        .next = 0,
                        .begin = {}});
  }
  return absl::OkStatus();
}

void LoadRun::RunToEnd(awaitable<void> work) {
  io_.restart();
  signals_.add(SIGINT);
  signals_.add(SIGTERM);
  signals_.async_wait([this](error_code error, int) {
    if (error) return;
    result_.interrupted = true;
    io_.stop();  // what is under way is dropped with the context
  });
  Spawn(std::move(work));
  io_.run();
  signals_.clear();  // Ctrl-C kills again
}

void LoadRun::Spawn(awaitable<void> work) {
  ++running_;
  asio::co_spawn(io_, std::move(work), [this](const std::exception_ptr& thrown) {
    if (thrown) std::rethrow_exception(thrown);
    if (--running_ > 0) return;
    signals_.cancel();
    ticker_.cancel();
  });
}

awaitable<void> LoadRun::Prelude() {
  co_await FindModel();
  if (!prelude_status_.ok()) co_return;
  co_await Calibrate();
  co_await Probe();
}

awaitable<void> LoadRun::FindModel() {
  if (!body_.model.empty()) co_return;
  const Answer answer = co_await Exchange(http::verb::get, "/v1/models", "", nullptr, nullptr);
  if (answer.status == 0) {
    prelude_status_ =
        absl::UnavailableError(absl::StrCat("cannot reach ", options_.target.host, ":",
                                            options_.target.port, ": ", answer.error.message()));
  } else if (answer.status == 200) {
    body_.model = FirstModel(answer.body);
  }
  if (prelude_status_.ok() && body_.model.empty()) {
    prelude_status_ = absl::UnavailableError(absl::StrCat("/v1/models answered ", answer.status,
                                                          ": ", ErrorMessage(answer.body),
                                                          "; name the model with --model"));
  }
}

awaitable<void> LoadRun::Calibrate() {
  // Ours and vLLM's call the text "prompt", llama.cpp's "content", llama-cpp-python's "input".
  const std::string text = CalibrationText();
  const nlohmann::json ours = {
      {"model", body_.model}, {"prompt", text}, {"add_special_tokens", false}};
  const nlohmann::json llama_cpp = {{"content", text}};
  const nlohmann::json llama_cpp_python = {{"model", body_.model}, {"input", text}};
  const std::pair<const char*, std::string> attempts[] = {
      {"/tokenize", ours.dump()},
      {"/tokenize", llama_cpp.dump()},
      {"/extras/tokenize/count", llama_cpp_python.dump()}};
  result_.tokens_per_word = kEstimatedTokensPerWord;
  for (const auto& [path, body] : attempts) {
    const Answer answer = co_await Exchange(http::verb::post, path, body, nullptr, nullptr);
    const int count = answer.status == 200 ? TokenCount(answer.body) : 0;
    if (count <= 0) continue;
    result_.tokens_per_word = static_cast<double>(count) / CalibrationWords();
    result_.calibrated = true;
    co_return;
  }
}

// One small request per endpoint in use, so that a wrong URL, model or key ends the run at once,
// and fields that the server refuses are left out of the others.
awaitable<void> LoadRun::Probe() {
  struct Extra {
    const char* name;
    bool BodyOptions::*sends;
  };
  const Extra extras[] = {{"min_tokens", &BodyOptions::send_min_tokens},
                          {"ignore_eos", &BodyOptions::send_ignore_eos},
                          {"stream_options", &BodyOptions::send_stream_options}};
  for (const Workload& workload : options_.workloads) {
    const std::vector<Message> hello = {{"user", "Hello"}};
    RequestRecord record;
    std::string text;
    co_await Stream(workload, RequestBody(workload, body_, hello, 1), record, text);
    for (const Extra& extra : extras) {
      const bool may_be_it = record.failure == "HTTP 400" || record.failure == "HTTP 422";
      if (!may_be_it || !(body_.*extra.sends)) continue;
      body_.*extra.sends = false;
      result_.refused_fields.push_back(extra.name);
      record = RequestRecord();
      co_await Stream(workload, RequestBody(workload, body_, hello, 1), record, text);
    }
    if (!record.failure.empty()) {
      prelude_status_ = absl::UnavailableError(
          absl::StrCat("a first request (", RequestPath(workload), ", workload '", workload.name,
                       "') failed: ", record.failure, " ", record.failure_detail));
      co_return;
    }
  }
}

awaitable<void> LoadRun::WarmUp() {
  for (Source& source : sources_) {
    for (int i = 0; i < source.workload->warmup; ++i) {
      co_await Conversation(source, Phase::kWarmup, i);
    }
  }
}

awaitable<void> LoadRun::Measure() {
  begin_ = Clock::now();
  measuring_ = true;
  for (Source& source : sources_) {
    source.begin = begin_ + Seconds(source.workload->start_s);
    Spawn(RunWorkload(source));
  }
  if (options_.on_progress) {
    asio::co_spawn(io_, Tick(), [](const std::exception_ptr&) {});
  }
  co_return;
}

awaitable<void> LoadRun::Tick() {
  while (running_ > 0) {
    ticker_.expires_after(std::chrono::seconds(1));
    auto [error] = co_await ticker_.async_wait(kAwait);
    if (error) co_return;
    progress_.elapsed_s = Now();
    options_.on_progress(progress_);
  }
}

bool LoadRun::MayBegin(const Source& source) const {
  const Workload& workload = *source.workload;
  const bool in_time =
      workload.duration_s == 0.0 || Clock::now() < source.begin + Seconds(workload.duration_s);
  return in_time && (workload.num_requests == 0 || source.next < workload.num_requests);
}

awaitable<void> LoadRun::RunWorkload(Source& source) {
  asio::steady_timer timer(io_, source.begin);
  co_await timer.async_wait(kAwait);
  if (source.workload->concurrency > 0) {
    for (int i = 0; i < source.workload->concurrency; ++i) Spawn(Client(source));
  } else {
    Spawn(Arrivals(source));
  }
}

awaitable<void> LoadRun::Client(Source& source) {
  while (MayBegin(source)) co_await Conversation(source, Phase::kMeasured, source.next++);
}

awaitable<void> LoadRun::Arrivals(Source& source) {
  const Workload& workload = *source.workload;
  Random random({options_.seed, static_cast<uint64_t>(source.index)});
  // Times are summed up, not waited one after another: a late wake-up delays no later arrival.
  Clock::time_point arrival = source.begin;
  asio::steady_timer timer(io_);
  while (MayBegin(source)) {
    Spawn(Conversation(source, Phase::kMeasured, source.next++));
    if (workload.request_rate == 0.0) continue;
    arrival += Seconds(random.Exponential(workload.request_rate));
    timer.expires_at(arrival);
    co_await timer.async_wait(kAwait);
  }
}

awaitable<void> LoadRun::Conversation(Source& source, Phase phase, int64_t index) {
  const Workload& workload = *source.workload;
  std::vector<Message> messages;
  int context_tokens = 0;  // of all so far, about
  for (int turn = 0; turn < workload.turns; ++turn) {
    Turn said = source.prompts.MakeTurn(phase, index, turn);
    // The completions endpoint joins the messages: words stay apart.
    const bool chat = workload.endpoint == "chat";
    if (!said.prefix.empty()) messages.push_back({"system", said.prefix + (chat ? "" : " ")});
    messages.push_back({"user", chat || turn == 0 ? said.text : "\n" + said.text});

    RequestRecord record;
    record.workload = source.index;
    record.turn = turn;
    record.prompt_tokens = context_tokens += said.prompt_tokens;
    Message reply{"assistant", chat ? "" : "\n"};
    std::string body = RequestBody(workload, body_, messages, said.output_tokens);
    ++progress_.sent;
    co_await Stream(workload, std::move(body), record, reply.content);
    messages.push_back(std::move(reply));
    context_tokens += record.output_tokens;
    const bool failed = !record.failure.empty();
    ++(failed ? progress_.failed : progress_.answered);
    if (phase == Phase::kMeasured) result_.records.push_back(std::move(record));
    if (failed) co_return;
  }
}

awaitable<void> LoadRun::Stream(const Workload& workload, std::string body, RequestRecord& record,
                                std::string& text) {
  SseParser events;
  bool done = false;
  const auto fail = [&record](const char* kind, std::string detail) {
    if (record.failure.empty()) record.failure = kind;
    if (record.failure_detail.empty()) record.failure_detail = std::move(detail);
  };
  const auto on_event = [&](absl::string_view data) {
    const absl::StatusOr<StreamChunk> chunk = ParseStreamChunk(data);
    if (!chunk.ok()) return fail("broken stream", std::string(chunk.status().message()));
    if (!chunk->error.empty()) return fail("stream error", chunk->error);
    done |= chunk->done;
    if (chunk->is_piece) record.piece_times_s.push_back(Now());
    text += chunk->text;
    if (chunk->usage) {
      record.has_usage = true;
      record.prompt_tokens = chunk->usage->prompt_tokens;
      record.output_tokens = chunk->usage->completion_tokens;
      record.cached_tokens = chunk->usage->cached_tokens;
    }
  };
  OnBody on_body = [&](absl::string_view bytes) {
    const absl::Status status = events.Feed(bytes, on_event);
    if (!status.ok()) fail("broken stream", std::string(status.message()));
    return record.failure.empty();
  };
  record.sent_s = Now();
  const Answer answer = co_await Exchange(http::verb::post, RequestPath(workload), std::move(body),
                                          &workload, std::move(on_body));
  record.end_s = Now();
  if (answer.error == beast::error::timeout) {
    fail("timeout", "");
  } else if (answer.status != 0 && answer.status != 200) {
    fail(absl::StrCat("HTTP ", answer.status).c_str(), ErrorMessage(answer.body));
  } else if (answer.error) {
    fail("connection", answer.error.message());
  } else if (!done) {
    fail("broken stream", "ended without [DONE]");
  }
  if (!record.has_usage) record.output_tokens = static_cast<int>(record.piece_times_s.size());
}

awaitable<Answer> LoadRun::Exchange(http::verb verb, std::string path, std::string body,
                                    const Workload* workload, OnBody on_body) {
  http::request<http::string_body> request(verb, options_.target.path + path, 11);
  request.set(http::field::host, options_.target.host + ":" + options_.target.port);
  request.set(http::field::user_agent, "tessera_serving_benchmark");
  if (!options_.api_key.empty()) {
    request.set(http::field::authorization, "Bearer " + options_.api_key);
  }
  if (workload != nullptr) {
    if (!workload->tenant.empty()) request.set("x-tenant-id", workload->tenant);
    for (const auto& [name, value] : workload->headers) request.set(name, value);
  }
  if (verb == http::verb::post) request.set(http::field::content_type, "application/json");
  request.body() = std::move(body);
  request.prepare_payload();

  while (true) {
    std::unique_ptr<Connection> connection;
    if (idle_.empty()) {
      connection = std::make_unique<Connection>(io_);
    } else {
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
    connection->stream.expires_after(Seconds(options_.request_timeout_s));
    bool keep_alive = false;
    const Answer answer = co_await TryExchange(*connection, request, on_body, keep_alive);
    // The server may have closed a kept connection just as we sent: that is no failure of its.
    const bool stale = connection->used && answer.status == 0 && answer.error &&
                       answer.error != beast::error::timeout;
    if (stale) continue;
    if (keep_alive) {
      connection->used = true;
      idle_.push_back(std::move(connection));
    }
    co_return answer;
  }
}

awaitable<Answer> LoadRun::TryExchange(Connection& connection,
                                       const http::request<http::string_body>& request,
                                       const OnBody& on_body, bool& keep_alive) {
  Answer answer;
  if (!connection.used) {
    answer.error = co_await Connect(connection);
    if (answer.error) co_return answer;
  }
  auto [write_error, written] = co_await http::async_write(connection.stream, request, kAwait);
  if (write_error) {
    // A server that refuses an upload answers before it has read it all: look for that answer.
    answer.error = write_error;
    if (write_error == beast::error::timeout) co_return answer;
  }
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  auto [head_error, head_bytes] =
      co_await http::async_read_header(connection.stream, connection.buffer, parser, kAwait);
  if (head_error) {
    if (!answer.error) answer.error = head_error;
    co_return answer;
  }
  answer.error = {};
  answer.status = parser.get().result_int();
  const bool stream = answer.status == 200 && on_body != nullptr;
  char bytes[kReadBytes];
  while (!parser.is_done()) {
    parser.get().body().data = bytes;
    parser.get().body().size = sizeof(bytes);
    auto [error, count] =
        co_await http::async_read_some(connection.stream, connection.buffer, parser, kAwait);
    const absl::string_view got(bytes, sizeof(bytes) - parser.get().body().size);
    if (stream && !got.empty() && !on_body(got)) co_return answer;
    if (!stream && answer.body.size() < kMaxErrorBodyBytes)
      answer.body.append(got.data(), got.size());
    if (error && error != http::error::need_buffer) {
      answer.error = error;
      co_return answer;
    }
  }
  keep_alive = parser.get().keep_alive() && !write_error;
  co_return answer;
}

awaitable<error_code> LoadRun::Connect(Connection& connection) {
  auto [error, endpoint] = co_await connection.stream.async_connect(endpoints_, kAwait);
  if (error) co_return error;
  error_code ignored;
  connection.stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  co_return error_code();
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(const LoadOptions& options) { return LoadRun(options).Run(); }

}  // namespace tessera::benchmarks
