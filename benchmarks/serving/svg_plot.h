// Line charts as one self-contained SVG that follows the reader's light or dark colour scheme.
// Pure.
//
//   std::string svg = RenderSvg("title", "subtitle", {{.title = "TTFT", .x_label = "ms", ...}});
#ifndef TESSERA_BENCHMARKS_SERVING_SVG_PLOT_H_
#define TESSERA_BENCHMARKS_SERVING_SVG_PLOT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tessera::benchmarks {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x rising; not finite ones are left out
};

struct Panel {
  std::string title;
  std::string x_label;  // with its unit
  std::string y_label;
  std::vector<Series> series;
  bool steps = false;  // from point to point first across, then up: a cumulative share
  bool share = false;  // y is 0 .. 1, written as per cent
};

// Two panels in a row, a legend beneath the title when there are several series. A panel without
// points says so.
std::string RenderSvg(absl::string_view title, absl::string_view subtitle,
                      const std::vector<Panel>& panels);

// Where an axis from `low` to `high` is marked: round numbers (1, 2 or 5 times a power of ten),
// about `wanted` of them, none outside. low < high.
std::vector<double> LinearTicks(double low, double high, int wanted);
// The same on a logarithmic axis; 0 < low < high.
std::vector<double> LogTicks(double low, double high);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SVG_PLOT_H_
