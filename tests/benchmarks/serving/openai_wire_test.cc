#include "benchmarks/serving/openai_wire.h"
#include "absl/strings/str_cat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace tessera::benchmarks {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

TEST(ParseUrl, TakesWhatPeopleWrite) {
  struct Case {
    const char *url, *host, *port, *path;
  };
  for (const Case& c :
       {Case{"http://localhost:8000", "localhost", "8000", ""},
        Case{"http://localhost", "localhost", "80", ""},
        Case{"http://10.0.0.1:9/", "10.0.0.1", "9", ""}, Case{"http://h:1/v1", "h", "1", ""},
        Case{"http://h:1/v1/", "h", "1", ""}, Case{"http://h/openai/v1", "h", "80", "/openai"},
        Case{"http://[::1]:8000/v1", "::1", "8000", ""}, Case{"http://[::1]", "::1", "80", ""}}) {
    const auto target = ParseUrl(c.url);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(target->host, c.host) << c.url;
    EXPECT_EQ(target->port, c.port) << c.url;
    EXPECT_EQ(target->path, c.path) << c.url;
  }
}

TEST(ParseUrl, RefusesWhatItCannotReach) {
  for (const char* url : {"", "localhost:8000", "https://h:1", "http://", "http://:80",
                          "http://h:", "http://h:0", "http://h:65536", "http://h:x"}) {
    EXPECT_EQ(ParseUrl(url).status().code(), absl::StatusCode::kInvalidArgument) << url;
  }
}

TEST(RequestBody, CompletionsJoinTheConversation) {
  Workload workload;
  const json body =
      json::parse(RequestBody(workload, {.model = "m"}, {{"system", "p "}, {"user", "q"}}, 5));
  EXPECT_EQ(body["model"], "m");
  EXPECT_EQ(body["prompt"], "p q");
  EXPECT_EQ(body["max_tokens"], 5);
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["stream_options"]["include_usage"], true);
  EXPECT_FALSE(body.contains("ignore_eos"));
  EXPECT_FALSE(body.contains("min_tokens"));
  EXPECT_EQ(RequestPath(workload), "/v1/completions");
}

TEST(RequestBody, ChatKeepsRolesAndExtrasAndLeavesOutWhatIsRefused) {
  Workload workload;
  workload.endpoint = "chat";
  workload.ignore_eos = true;
  workload.extra_body = {{"priority", 3}, {"temperature", 0.5}};
  json body = json::parse(RequestBody(workload, {.model = "m"}, {{"user", "q"}}, 9));
  EXPECT_EQ(body["messages"], json::parse(R"([{"role":"user","content":"q"}])"));
  EXPECT_EQ(body["ignore_eos"], true);
  EXPECT_EQ(body["min_tokens"], 9);
  EXPECT_EQ(body["priority"], 3);
  EXPECT_EQ(body["temperature"], 0.5);
  EXPECT_EQ(RequestPath(workload), "/v1/chat/completions");

  body = json::parse(RequestBody(workload,
                                 {.model = "m",
                                  .send_ignore_eos = false,
                                  .send_min_tokens = false,
                                  .send_stream_options = false},
                                 {{"user", "q"}}, 9));
  for (const char* field : {"ignore_eos", "min_tokens", "stream_options"}) {
    EXPECT_FALSE(body.contains(field)) << field;
  }
}

TEST(ParseStreamChunk, ReadsTextUsageAndTheEnd) {
  EXPECT_EQ(ParseStreamChunk(R"({"choices":[{"index":0,"text":"hi"}]})")->text, "hi");
  EXPECT_EQ(ParseStreamChunk(R"({"choices":[{"delta":{"content":"yo"}}],"usage":null})")->text,
            "yo");
  // The first chunk of a chat says who speaks: no token yet.
  EXPECT_EQ(
      ParseStreamChunk(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})")->text, "");
  const auto last = ParseStreamChunk(
      R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,
          "prompt_tokens_details":{"cached_tokens":5}}})");
  ASSERT_TRUE(last.ok() && last->usage);
  EXPECT_EQ(last->usage->prompt_tokens, 7);
  EXPECT_EQ(last->usage->completion_tokens, 3);
  EXPECT_EQ(last->usage->cached_tokens, 5);
  EXPECT_FALSE(last->done);
  EXPECT_TRUE(ParseStreamChunk("[DONE]")->done);
}

// A character of several tokens: the first ones come without text, and are tokens all the same.
TEST(ParseStreamChunk, ATokenWithoutTextIsAPiece) {
  const auto is_piece = [](const char* choice) {
    const auto chunk = ParseStreamChunk(absl::StrCat(R"({"choices":[)", choice, "]}"));
    return chunk.ok() && chunk->is_piece;
  };
  EXPECT_TRUE(is_piece(R"({"text":"hi","finish_reason":null})"));
  EXPECT_TRUE(is_piece(R"({"text":"","finish_reason":null})"));
  EXPECT_TRUE(is_piece(R"({"delta":{"content":""},"finish_reason":null})"));
  EXPECT_TRUE(is_piece(R"({"text":"end","finish_reason":"length"})"));
  EXPECT_FALSE(is_piece(R"({"text":"","finish_reason":"length"})"));
  EXPECT_FALSE(is_piece(R"({"delta":{},"finish_reason":"stop"})"));
  EXPECT_FALSE(is_piece(R"({"delta":{"role":"assistant","content":""},"finish_reason":null})"));
  EXPECT_FALSE(is_piece("null"));
}

TEST(ParseStreamChunk, ErrorsAndNonsense) {
  EXPECT_EQ(ParseStreamChunk(R"({"error":{"message":"group lost","code":503}})")->error,
            "group lost");
  for (const char* data : {"", "{", "[]", "1", "[DONE", "{\"choices\":"}) {
    EXPECT_FALSE(ParseStreamChunk(data).ok()) << data;
  }
  // Wrong types are no text; they do not throw.
  for (const char* data : {R"({"choices":{}})", R"({"choices":[1,null,{"text":3}]})",
                           R"({"choices":[{"delta":[]}]})", R"({"usage":{"prompt_tokens":"x"}})"}) {
    const auto chunk = ParseStreamChunk(data);
    ASSERT_TRUE(chunk.ok()) << data;
    EXPECT_EQ(chunk->text, "");
  }
  EXPECT_EQ(ParseStreamChunk(R"({"usage":{"prompt_tokens":1e99}})")->usage->prompt_tokens, 0);
}

TEST(ErrorMessage, FindsTheWordsAndBoundsThem) {
  EXPECT_EQ(ErrorMessage(R"({"error":{"message":"n is 0\nexpected 1"}})"), "n is 0 expected 1");
  EXPECT_EQ(ErrorMessage(R"({"error":"plain"})"), "plain");
  EXPECT_EQ(ErrorMessage("<html>502</html>"), "<html>502</html>");
  EXPECT_EQ(ErrorMessage(""), "");
  EXPECT_EQ(ErrorMessage(std::string(5000, 'x')).size(), 200u);
}

TEST(TokenCount, OfEveryKindOfServer) {
  EXPECT_EQ(TokenCount(R"({"count":5,"tokens":[1,2]})"), 5);
  EXPECT_EQ(TokenCount(R"({"tokens":[1,2,3]})"), 3);
  EXPECT_EQ(TokenCount(R"({"detail":"Not Found"})"), -1);
  EXPECT_EQ(TokenCount("no json"), -1);
}

TEST(FirstModel, OrNone) {
  EXPECT_EQ(FirstModel(R"({"data":[{"id":"a"},{"id":"b"}]})"), "a");
  for (const char* body : {"", "{}", R"({"data":[]})", R"({"data":[{}]})", R"({"data":3})"}) {
    EXPECT_EQ(FirstModel(body), "") << body;
  }
}

}  // namespace
}  // namespace tessera::benchmarks
