#include "benchmarks/serving/sse_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tessera::benchmarks {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Events(const std::vector<std::string>& parts) {
  SseParser parser;
  std::vector<std::string> events;
  for (const std::string& part : parts) {
    EXPECT_TRUE(parser.Feed(part, [&](absl::string_view data) { events.emplace_back(data); }).ok());
  }
  return events;
}

TEST(SseParser, ReadsEventsWithEveryLineEnding) {
  EXPECT_THAT(Events({"data: a\n\ndata: b\n\n"}), ElementsAre("a", "b"));
  EXPECT_THAT(Events({"data: a\r\n\r\ndata: b\r\n\r\n"}), ElementsAre("a", "b"));
  EXPECT_THAT(Events({"data: a\r\rdata: b\r\r"}), ElementsAre("a", "b"));
}

TEST(SseParser, EverySplitGivesTheSameEvents) {
  const std::string stream =
      "\xEF\xBB\xBF: hello\r\ndata: {\"x\":1}\r\n\r\nid: 3\ndata:two\ndata: "
      "lines\n\n\ndata\n\ndata: [DONE]\n\n";
  const std::vector<std::string> whole = Events({stream});
  EXPECT_THAT(whole, ElementsAre("{\"x\":1}", "two\nlines", "", "[DONE]"));
  for (size_t i = 0; i <= stream.size(); ++i) {
    EXPECT_EQ(Events({stream.substr(0, i), stream.substr(i)}), whole) << "cut at " << i;
    EXPECT_EQ(Events({stream.substr(0, i), "", stream.substr(i)}), whole) << "cut at " << i;
  }
  std::vector<std::string> bytes;
  for (char c : stream) bytes.emplace_back(1, c);
  EXPECT_EQ(Events(bytes), whole);
}

TEST(SseParser, SkipsWhatIsNoData) {
  EXPECT_THAT(Events({": comment\n\nevent: ping\n\nretry: 5\n\nnonsense\n\ndatabase: x\n\n"}),
              ElementsAre());
  EXPECT_THAT(Events({"data:  two spaces\n\n"}), ElementsAre(" two spaces"));
  EXPECT_THAT(Events({"data:a:b\n\n"}), ElementsAre("a:b"));
}

TEST(SseParser, AnUnfinishedEventIsNone) {
  SseParser parser;
  int events = 0;
  ASSERT_TRUE(parser.Feed("data: x\n", [&](absl::string_view) { ++events; }).ok());
  EXPECT_EQ(events, 0);
  EXPECT_TRUE(parser.inside_event());
  ASSERT_TRUE(parser.Feed("\n", [&](absl::string_view) { ++events; }).ok());
  EXPECT_EQ(events, 1);
  EXPECT_FALSE(parser.inside_event());
}

TEST(SseParser, AnEndlessEventIsRefused) {
  for (const char* unit : {"x", "data: x\n"}) {
    SseParser parser;
    std::string part;
    while (part.size() < SseParser::kMaxEventBytes) part += unit;
    absl::Status status = parser.Feed("data: ", [](absl::string_view) {});
    for (int i = 0; i < 8 && status.ok(); ++i) status = parser.Feed(part, [](absl::string_view) {});
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  }
}

}  // namespace
}  // namespace tessera::benchmarks
