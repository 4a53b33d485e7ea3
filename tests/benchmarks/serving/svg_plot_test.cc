#include "benchmarks/serving/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace tessera::benchmarks {
namespace {

using ::testing::DoubleNear;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(LinearTicks, AreRoundAndInside) {
  EXPECT_THAT(LinearTicks(0, 1, 5), Pointwise(DoubleNear(1e-9), {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}));
  EXPECT_THAT(LinearTicks(0, 1234, 5), Pointwise(DoubleNear(1e-9), {0.0, 500.0, 1000.0}));
  EXPECT_THAT(LinearTicks(0, 0.007, 4), Pointwise(DoubleNear(1e-9), {0.0, 0.002, 0.004, 0.006}));
}

TEST(LogTicks, AreRoundAndInside) {
  EXPECT_THAT(LogTicks(3, 120), Pointwise(DoubleNear(1e-9), {5.0, 10.0, 20.0, 50.0, 100.0}));
  EXPECT_THAT(LogTicks(1, 1e4), Pointwise(DoubleNear(1e-6), {1.0, 10.0, 100.0, 1000.0, 10000.0}));
}

TEST(RenderSvg, EscapesWhatUsersNamed) {
  const std::string svg = RenderSvg("a<b>&\"c\"", "s", {});
  EXPECT_THAT(svg, HasSubstr("a&lt;b&gt;&amp;&quot;c&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("a<b>")));
}

TEST(RenderSvg, AwkwardSeriesGiveNoBadNumbers) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<std::pair<double, double>>> kinds = {
      {{5, 1}},                           // one point
      {{0, 1}},                           // at zero
      {{0, 0.5}, {0, 1}},                 // all at zero
      {{7, 0.5}, {7, 1}},                 // no width
      {{0, 0.2}, {1e-9, 0.5}, {1e9, 1}},  // far apart
      {{nan, 1}, {1, nan}, {infinity, 1}, {2, 1}},
  };
  for (const auto& points : kinds) {
    for (bool steps : {false, true}) {
      const std::string svg = RenderSvg("t", "s",
                                        {{.title = "p",
                                          .x_label = "ms",
                                          .y_label = "share",
                                          .series = {{"a", points}},
                                          .steps = steps,
                                          .share = steps}});
      EXPECT_EQ(Count(svg, "<path"), 1u);
      EXPECT_THAT(svg, Not(HasSubstr("nan")));
      EXPECT_THAT(svg, Not(HasSubstr("inf")));
    }
  }
}

TEST(RenderSvg, APanelWithoutPointsSaysSo) {
  const std::string svg = RenderSvg(
      "t", "s",
      {{.title = "p", .x_label = "ms", .y_label = "share", .series = {{"a", {}}, {"b", {}}}}});
  EXPECT_THAT(svg, HasSubstr("no samples"));
  EXPECT_EQ(Count(svg, "<path"), 0u);
}

TEST(RenderSvg, ALegendOnlyWhereThereIsAChoice) {
  Panel panel{.title = "p", .x_label = "ms", .y_label = "share", .series = {{"one", {{1, 1}}}}};
  EXPECT_THAT(RenderSvg("t", "s", {panel}), Not(HasSubstr(">one<")));
  panel.series.push_back({"two", {{2, 1}}});
  const std::string svg = RenderSvg("t", "s", {panel});
  EXPECT_THAT(svg, HasSubstr(">one<"));
  EXPECT_THAT(svg, HasSubstr(">two<"));
  EXPECT_THAT(svg, HasSubstr("prefers-color-scheme:dark"));
}

}  // namespace
}  // namespace tessera::benchmarks
