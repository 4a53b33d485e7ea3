// Declarations → CLI11 options: values, defaults, environment names, refusals.
#include "proto/flags/declare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <sstream>
#include <string>
#include <vector>

namespace tessera::flags {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::string_view kColours[] = {"red", "green", "blue"};

// What is wrong with this command line; nothing if it is right.
std::string Mistake(CLI::App& app, const std::string& line) {
  try {
    app.parse(line);
  } catch (const CLI::ParseError& error) {
    return MistakeText(error);
  }
  return "";
}

TEST(Flag, Texts) {
  EXPECT_EQ(EnvironmentName("--max-model-len"), "TESSERA_MAX_MODEL_LEN");
  EXPECT_EQ(EnvironmentName("-o,--output"), "TESSERA_OUTPUT");
  EXPECT_EQ(EnvironmentName("--memory,!--no-memory"), "TESSERA_MEMORY");
  EXPECT_EQ(ValueText({.name = "--a", .help = "", .range = kPorts}), "0 .. 65535");
  EXPECT_EQ(ValueText({.name = "--a", .help = "", .range = Range{0.5, 2}, .unit = "seconds"}),
            "0.5 .. 2 seconds");
  EXPECT_EQ(ValueText({.name = "--a", .help = "", .choices = kColours}), "red, green or blue");
  EXPECT_EQ(ValueText({.name = "--a", .help = "", .value = "PATH"}), "PATH");
  EXPECT_EQ(RangeText({.lowest = 0, .highest = 1, .above_lowest = true}), "more than 0 .. 1");
  EXPECT_EQ(RangeText(kFromOne), "1 .. 2147483647");
}

struct Options {
  int count = 7;
  double share = 0.5;
  std::string colour = "red";
  std::vector<std::string> names;
  int64_t bytes = 0;
  absl::Duration wait = absl::Seconds(30);
  int level = 2;
  bool loud = false;
  bool shared = true;
};

class DeclareTest : public ::testing::Test {
 protected:
  DeclareTest() {
    Declare(app_, {.name = "--count", .help = "Some", .range = Range{1, 10}, .unit = "things"},
            options_.count);
    Declare(app_, {.name = "--share", .help = "Part", .range = Range{0, 1, true}},
            options_.share);
    Declare(app_, {.name = "--colour", .help = "Which", .choices = kColours}, options_.colour);
    Declare(app_, {.name = "--name", .help = "Who", .otherwise = "nobody"}, options_.names);
    DeclareBytes(app_, {.name = "--bytes", .help = "Size"}, options_.bytes);
    DeclareSeconds(app_, {.name = "--wait", .help = "Time", .range = Range{0.1, 60}},
                   options_.wait);
    DeclareWords<int>(app_, {.name = "--level", .help = "How"}, {{"low", 1}, {"high", 2}},
                      options_.level);
    Declare(app_, {.name = "--loud", .help = "Noise that goes on and on and on and on and on and on "
                                             "until somebody tells it to stop", .environment = false}, options_.loud);
    Declare(app_, {.name = "--shared,!--no-shared", .help = "Together"}, options_.shared);
  }
  CLI::App app_;
  Options options_;
};

TEST_F(DeclareTest, ValuesArrive) {
  EXPECT_EQ(Mistake(app_, "--count 10 --share 1 --colour blue --name a --name b --bytes 2MB "
                          "--wait 0.5 --level low --loud --no-shared"), "");
  EXPECT_EQ(options_.count, 10);
  EXPECT_EQ(options_.share, 1);
  EXPECT_EQ(options_.colour, "blue");
  EXPECT_THAT(options_.names, ElementsAre("a", "b"));
  EXPECT_EQ(options_.bytes, 2'000'000);
  EXPECT_EQ(options_.wait, absl::Milliseconds(500));
  EXPECT_EQ(options_.level, 1);
  EXPECT_TRUE(options_.loud);
  EXPECT_FALSE(options_.shared);
}

TEST_F(DeclareTest, NothingGivenChangesNothing) {
  EXPECT_EQ(Mistake(app_, ""), "");
  EXPECT_EQ(options_.count, 7);
  EXPECT_EQ(options_.colour, "red");
  EXPECT_EQ(options_.wait, absl::Seconds(30));
  EXPECT_EQ(options_.level, 2);
  EXPECT_TRUE(options_.shared);
}

TEST_F(DeclareTest, MistakesNameFlagRangeAndValue) {
  const struct {
    const char* line;
    const char* message;
  } cases[] = {
      {"--count 0", "--count: expected 1 .. 10 things, got 0"},
      {"--count 11", "--count: expected 1 .. 10 things, got 11"},
      {"--count 2.5", "--count: expected 1 .. 10 things, got 2.5"},
      {"--count many", "--count: expected 1 .. 10 things, got many"},
      {"--count 99999999999", "--count: expected 1 .. 10 things, got 99999999999"},
      {"--count", "--count: expected 1 .. 10 things, got nothing"},
      {"--share 0", "--share: expected more than 0 .. 1, got 0"},
      {"--share nan", "--share: expected more than 0 .. 1, got nan"},
      {"--share inf", "--share: expected more than 0 .. 1, got inf"},
      {"--colour pink", "--colour: expected red, green or blue, got pink"},
      {"--wait 61", "--wait: expected 0.1 .. 60 seconds, got 61"},
      {"--wait nan", "--wait: expected 0.1 .. 60 seconds, got nan"},
      {"--level middle", "--level: expected low or high, got middle"},
      {"--bytes much", "--bytes"},
      {"--loud=perhaps", "--loud"},
  };
  for (const auto& mistake : cases) {
    EXPECT_THAT(Mistake(app_, mistake.line), HasSubstr(mistake.message));
  }
}

TEST_F(DeclareTest, TheEnvironmentStandsInAndIsCheckedToo) {
  setenv("TESSERA_COUNT", "3", 1);
  setenv("TESSERA_SHARED", "false", 1);
  setenv("TESSERA_LOUD", "true", 1);
  EXPECT_EQ(Mistake(app_, ""), "");
  EXPECT_EQ(options_.count, 3);
  EXPECT_FALSE(options_.shared);
  EXPECT_FALSE(options_.loud) << "this flag has no variable";
  EXPECT_EQ(Mistake(app_, "--count 4"), "");
  EXPECT_EQ(options_.count, 4);
  setenv("TESSERA_COUNT", "12", 1);
  EXPECT_THAT(Mistake(app_, ""), HasSubstr("--count: expected 1 .. 10 things, got 12"));
  for (const char* name : {"TESSERA_COUNT", "TESSERA_SHARED", "TESSERA_LOUD"}) unsetenv(name);
}

TEST_F(DeclareTest, HelpShowsValuesAndDefaults) {
  UsePlainHelp(app_);
  const std::string help = app_.help();
  EXPECT_THAT(help, HasSubstr("--count 1 .. 10 things (=7)"));
  EXPECT_THAT(help, HasSubstr("--wait 0.1 .. 60 seconds (=30)"));
  EXPECT_THAT(help, HasSubstr("--level low or high (=high)"));
  EXPECT_THAT(help, HasSubstr("Who (default: nobody)"));
  EXPECT_THAT(help, HasSubstr("Together (default: on)"));
  EXPECT_THAT(help, HasSubstr("--shared,--no-shared "));
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  EXPECT_THAT(help, ContainsRegex("until somebody\n +tells it to stop"));
}

}  // namespace
}  // namespace tessera::flags
