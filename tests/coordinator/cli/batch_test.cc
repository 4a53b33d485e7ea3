// Batch files: lines, resuming, retries and concurrency, against a server played by a function.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/barrier.h"
#include "coordinator/cli/batch_lines.h"
#include "coordinator/cli/batch_runner.h"
#include "coordinator/cli/perplexity_windows.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string ChatLine(const std::string& id) {
  return absl::StrCat(R"({"custom_id":")", id,
                      R"(","method":"POST","url":"/v1/chat/completions","body":{"messages":[]}})",
                      "\n");
}

absl::StatusOr<BatchReply> Hello(int, const BatchRequest& request) {
  return BatchReply{absl::StrCat("r-", *request.custom_id), R"({"object":"chat.completion"})", 3};
}

std::vector<json> Lines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream input(text);
  for (std::string line; std::getline(input, line);) lines.push_back(json::parse(line));
  return lines;
}

struct Ran {
  std::string output;
  BatchProgress progress;
  absl::Status status;
};

Ran RunLines(const std::string& input_text, const BatchSend& send, BatchOptions options = {},
             BatchResults done = {}) {
  options.retry_delay = absl::ZeroDuration();
  std::istringstream input(input_text);
  std::ostringstream output;
  BatchRunner runner(options, input, output, std::move(done), send);
  runner.Start();
  EXPECT_TRUE(runner.Wait(absl::Seconds(60)));
  return {output.str(), runner.Progress(), runner.status()};
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) {
    path_ = testing::TempDir() + absl::StrCat("batch_test_", getpid(), ".jsonl");
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }
  std::string Content() const {
    std::ostringstream content;
    content << std::ifstream(path_, std::ios::binary).rdbuf();
    return content.str();
  }

 private:
  std::string path_;
};

TEST(BatchLines, AGoodLine) {
  const BatchRequest request = ParseBatchRequest(
      7,
      R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"x"},"more":1})");
  ASSERT_TRUE(request.status.ok()) << request.status;
  EXPECT_EQ(request.line, 7);
  EXPECT_EQ(request.custom_id, "a");
  EXPECT_FALSE(request.chat);
  EXPECT_EQ(json::parse(request.body), json({{"prompt", "x"}}));
}

TEST(BatchLines, BadLinesNameTheirField) {
  const std::map<std::string, const char*> bad = {
      {"", "JSON"},
      {"[]", "object"},
      {"{", "JSON"},
      {R"({"method":"POST"})", "custom_id is missing"},
      {R"({"custom_id":3})", "custom_id"},
      {R"({"custom_id":"a","method":"GET"})", "method is not POST"},
      {R"({"custom_id":"a","url":"/v1/embeddings","body":{}})", "url is '/v1/embeddings'"},
      {R"({"custom_id":"a","url":"/v1/completions"})", "body is missing"},
      {R"({"custom_id":"a","url":"/v1/completions","body":"x"})", "body"},
      {std::string(100'000, '['), "deep"},
      {"\xff", "UTF-8"},
  };
  for (const auto& [line, message] : bad) {
    const BatchRequest request = ParseBatchRequest(1, line);
    EXPECT_EQ(request.status.code(), absl::StatusCode::kInvalidArgument) << line.substr(0, 40);
    EXPECT_THAT(std::string(request.status.message()), HasSubstr(message));
    const json result = json::parse(BatchErrorLine(request, request.status));
    EXPECT_TRUE(result["response"].is_null());
    EXPECT_EQ(result["error"]["code"], "invalid_line");
    EXPECT_EQ(result["error"]["line"], 1);
  }
}

TEST(BatchRunner, EveryLineGetsOneResult) {
  std::string input = "\n";
  for (int i = 0; i < 500; ++i) input += ChatLine(absl::StrCat(i));
  const Ran ran = RunLines(input, Hello);
  EXPECT_TRUE(ran.status.ok()) << ran.status;
  EXPECT_EQ(ran.progress.answered, 500);
  EXPECT_EQ(ran.progress.completion_tokens, 1500);
  std::set<std::string> ids;
  for (const json& line : Lines(ran.output)) {
    ids.insert(line["custom_id"]);
    EXPECT_EQ(line["response"]["status_code"], 200);
    EXPECT_EQ(line["response"]["request_id"], "r-" + line["custom_id"].get<std::string>());
    EXPECT_EQ(line["response"]["body"]["object"], "chat.completion");
    EXPECT_TRUE(line["error"].is_null());
  }
  EXPECT_EQ(ids.size(), 500u);
}

// All of them meet inside the call, so neither fewer nor more are on their way.
TEST(BatchRunner, AsManyAsAskedAreOnTheirWay) {
  constexpr int kSlots = 8;
  std::atomic<int> live = 0, most = 0;
  std::vector<std::unique_ptr<absl::Barrier>> rounds;
  for (int i = 0; i < 4; ++i) rounds.push_back(std::make_unique<absl::Barrier>(kSlots));
  std::string input;
  for (int i = 0; i < 4 * kSlots; ++i) input += ChatLine(absl::StrCat(i));
  std::atomic<int> sent = 0;
  const Ran ran =
      RunLines(input,
               [&](int slot, const BatchRequest& request) {
                 const int now = ++live;
                 for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
                 }
                 rounds[static_cast<size_t>(sent++ / kSlots)]->Block();
                 --live;
                 return Hello(slot, request);
               },
               {.concurrency = kSlots});
  EXPECT_EQ(ran.progress.answered, 4 * kSlots);
  EXPECT_EQ(most, kSlots);
}

TEST(BatchRunner, RefusedAndBadLinesBecomeErrorsAndAreCounted) {
  const Ran ran = RunLines(ChatLine("a") + "nonsense\n" + ChatLine("b") + ChatLine("a"),
                           [](int slot, const BatchRequest& request) -> absl::StatusOr<BatchReply> {
                             if (request.custom_id == "b") {
                               return wire::FieldError("sampling.top_k", "is -7");
                             }
                             return Hello(slot, request);
                           },
                           {.concurrency = 1});
  EXPECT_TRUE(ran.status.ok()) << ran.status;
  EXPECT_EQ(ran.progress.answered, 1);
  EXPECT_EQ(ran.progress.failed, 3);
  const std::vector<json> lines = Lines(ran.output);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(lines[1]["custom_id"].is_null());
  EXPECT_EQ(lines[1]["error"]["line"], 2);
  EXPECT_EQ(lines[2]["response"]["status_code"], 400);
  EXPECT_EQ(lines[2]["response"]["body"]["error"]["param"], "top_k");
  EXPECT_EQ(lines[2]["error"]["code"], "request_failed");
  EXPECT_THAT(lines[3]["error"]["message"].get<std::string>(), HasSubstr("custom_id"));
}

TEST(BatchRunner, AFullServerIsAskedAgain) {
  std::atomic<int> asked = 0;
  const Ran ran = RunLines(
      ChatLine("a"), [&](int slot, const BatchRequest& request) -> absl::StatusOr<BatchReply> {
        if (++asked < 50) {
          return wire::OverloadedError("queue full", absl::Milliseconds(1));
        }
        return Hello(slot, request);
      });
  EXPECT_EQ(asked, 50);
  EXPECT_EQ(ran.progress.answered, 1);
  EXPECT_EQ(ran.progress.failed, 0);
}

TEST(BatchRunner, AServerThatIsGoneEndsTheBatchWithoutResultsForIt) {
  std::atomic<int> asked = 0;
  const Ran ran = RunLines(ChatLine("a") + ChatLine("b"),
                           [&](int, const BatchRequest&) -> absl::StatusOr<BatchReply> {
                             ++asked;
                             return absl::UnavailableError("no answer");
                           },
                           {.concurrency = 1, .unavailable_retries = 3});
  EXPECT_EQ(ran.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(ran.output, "");
}

TEST(BatchRunner, AStoppedBatchWritesNothingMore) {
  std::istringstream input(ChatLine("a") + ChatLine("b"));
  std::ostringstream output;
  absl::Notification called, cancelled;
  BatchRunner runner({.concurrency = 1}, input, output, {},
                     [&](int, const BatchRequest&) -> absl::StatusOr<BatchReply> {
                       called.Notify();
                       cancelled.WaitForNotification();
                       return absl::CancelledError("the call was cancelled");
                     });
  runner.Start();
  called.WaitForNotification();
  runner.Stop();
  cancelled.Notify();
  EXPECT_TRUE(runner.Wait(absl::Seconds(60)));
  EXPECT_TRUE(absl::IsCancelled(runner.status()));
  EXPECT_EQ(output.str(), "");
}

TEST(BatchResults, WhatIsDoneIsNotAskedForAgain) {
  const std::string input = ChatLine("a") + "nonsense\n" + ChatLine("b") + ChatLine("c");
  const Ran whole = RunLines(input, Hello, {.concurrency = 1});
  // Cut anywhere: what is left is read, what is torn is dropped, and the rest comes again.
  for (size_t length = 0; length <= whole.output.size(); length += 7) {
    TemporaryFile file(whole.output.substr(0, length));
    const auto done = ReadBatchResults(file.path());
    ASSERT_TRUE(done.ok()) << done.status();
    const std::string kept = file.Content();
    EXPECT_TRUE(kept.empty() || kept.back() == '\n');
    const Ran rest = RunLines(input, Hello, {.concurrency = 1}, *done);
    EXPECT_EQ(kept + rest.output, whole.output);
    EXPECT_EQ(rest.progress.skipped + rest.progress.answered + rest.progress.failed, 4);
  }
}

TEST(BatchResults, AnotherFileIsLeftAlone) {
  TemporaryFile file("my notes\nmore");
  const auto done = ReadBatchResults(file.path());
  EXPECT_EQ(done.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(done.status().message()), HasSubstr("line 1 of"));
  EXPECT_EQ(file.Content(), "my notes\nmore");
  EXPECT_TRUE(ReadBatchResults("/nonexistent/out.jsonl").ok());
}

TEST(PerplexityWindows, EveryTokenButTheFirstIsScoredOnce) {
  for (int64_t tokens = 0; tokens < 40; ++tokens) {
    for (int64_t context = 2; context < 12; ++context) {
      for (int64_t stride = 1; stride < context; ++stride) {
        int64_t next = 1;
        for (const PerplexityWindow& window : PerplexityWindows(tokens, {context, stride})) {
          EXPECT_EQ(window.first_scored, next);
          EXPECT_LT(window.begin, window.first_scored);
          EXPECT_LT(window.first_scored, window.end);
          EXPECT_LE(window.end - window.begin, context);
          if (window.end < tokens) {
            EXPECT_EQ(window.end - window.begin, context);
          }
          next = window.end;
        }
        EXPECT_EQ(next, std::max<int64_t>(tokens, 1));
      }
    }
  }
}

}  // namespace
}  // namespace tessera::coordinator
