#include "benchmarks/serving/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace tessera::benchmarks {
namespace {

// In pixels of the view box.
constexpr double kPanelWidth = 430, kPanelHeight = 280;
constexpr double kLeft = 62, kRight = 16, kTop = 34, kBottom = 46;  // around a panel's plot area
constexpr double kHead = 64, kLegendRow = 22;
constexpr double kLogRatio = 30;  // past this ratio of its ends an axis is logarithmic
constexpr int kColors = 8;

// Okabe and Ito's palette, told apart by colour-blind readers too; dashes tell the rest.
constexpr absl::string_view kStyle = R"(<style>
svg{color-scheme:light dark;--paper:#ffffff;--ink:#1f2328;--faint:#59636e;--grid:#d8dee4}
svg{--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b0578d}
svg{--s4:#946c00;--s5:#3a8fc2;--s6:#333333;--s7:#7a5195}
@media (prefers-color-scheme:dark){
svg{--paper:#0d1117;--ink:#e6edf3;--faint:#9198a1;--grid:#30363d}
svg{--s0:#56b4e9;--s1:#ff8c42;--s2:#2ec99a;--s3:#e69fcb}
svg{--s4:#f0c23c;--s5:#9bd3f5;--s6:#dddddd;--s7:#b99ad0}}
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:var(--ink)}
.h{font-size:17px;font-weight:600}.t{font-size:13px;font-weight:600}.f{fill:var(--faint)}
.g{stroke:var(--grid);stroke-width:1}.a{stroke:var(--faint);stroke-width:1}
.l{fill:none;stroke-width:2;stroke-linejoin:round}
</style>
)";

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Text(double x, double y, absl::string_view anchor, absl::string_view style,
                 absl::string_view text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n",
                         x, y, anchor, style, Escape(text));
}

std::string Line(double x1, double y1, double x2, double y2, absl::string_view style) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2,
                         y2, style);
}

std::string StrokeOf(size_t index) {
  constexpr std::array<const char*, 4> kDashes = {"", "7 3", "2 3", "9 3 2 3"};
  return absl::StrCat("style=\"stroke:var(--s", index % kColors,
                      ");stroke-dasharray:", index == 0 ? "none" : kDashes[index % kDashes.size()],
                      "\"");
}

// One axis: values to pixels, and what is written beside it.
struct Axis {
  double low = 0.0, high = 1.0;
  bool logarithmic = false;
  std::vector<double> ticks;

  double Place(double value) const {  // 0 .. 1
    if (!logarithmic) return (value - low) / (high - low);
    return std::log(std::max(value, low) / low) / std::log(high / low);
  }
};

using Points = std::vector<std::pair<double, double>>;

Axis XAxis(const std::vector<Points>& all, bool may_be_logarithmic) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  double low_above_0 = low;
  for (const Points& points : all) {
    for (const auto& [x, y] : points) {
      low = std::min(low, x);
      high = std::max(high, x);
      if (x > 0.0) low_above_0 = std::min(low_above_0, x);
    }
  }
  Axis axis;
  // Gaps of zero (two tokens in one packet) must not stretch the axis without end.
  const double log_low = std::max(low_above_0, high / 1e4);
  if (may_be_logarithmic && high > 0.0 && high > kLogRatio * log_low) {
    axis = {.low = log_low, .high = high, .logarithmic = true, .ticks = LogTicks(log_low, high)};
    return axis;
  }
  axis.low = std::min(low, 0.0);
  axis.high = high > axis.low ? high : axis.low + 1.0;
  axis.ticks = LinearTicks(axis.low, axis.high, 6);
  return axis;
}

Axis YAxis(const std::vector<Points>& all, bool share) {
  Axis axis;
  if (!share) {
    axis.high = 0.0;
    for (const Points& points : all) {
      for (const auto& [x, y] : points) axis.high = std::max(axis.high, y);
    }
    axis.high = axis.high > 0.0 ? axis.high * 1.05 : 1.0;
  }
  axis.ticks = LinearTicks(0.0, axis.high, 5);
  return axis;
}

std::string TickLabel(double value, bool share) {
  if (share) return absl::StrFormat("%.0f%%", value * 100.0);
  if (std::abs(value) >= 1e4) return absl::StrFormat("%gk", value / 1e3);
  return absl::StrFormat("%.4g", value);
}

std::string Path(const Points& points, bool steps, const std::function<double(double)>& px,
                 const std::function<double(double)>& py) {
  std::string path;
  for (size_t i = 0; i < points.size(); ++i) {
    const double x = px(points[i].first), y = py(points[i].second);
    if (i == 0) {
      absl::StrAppendFormat(&path, "M%.1f %.1f", x, steps ? py(0.0) : y);
      if (steps) absl::StrAppendFormat(&path, "V%.1f", y);
    } else if (steps) {
      absl::StrAppendFormat(&path, "H%.1fV%.1f", x, y);
    } else {
      absl::StrAppendFormat(&path, "L%.1f %.1f", x, y);
    }
  }
  return path;
}

std::vector<Points> FinitePoints(const Panel& panel) {
  std::vector<Points> all;
  for (const Series& series : panel.series) {
    Points& points = all.emplace_back();
    for (const auto& point : series.points) {
      if (std::isfinite(point.first) && std::isfinite(point.second)) points.push_back(point);
    }
  }
  return all;
}

std::string DrawPanel(const Panel& panel, double x0, double y0) {
  const double left = x0 + kLeft, right = x0 + kPanelWidth - kRight;
  const double top = y0 + kTop, bottom = y0 + kPanelHeight - kBottom;
  const double middle = (left + right) / 2;
  std::string svg = Text(left, y0 + 20, "start", "t", panel.title);
  const std::vector<Points> all = FinitePoints(panel);
  if (std::all_of(all.begin(), all.end(), [](const Points& points) { return points.empty(); })) {
    return svg + Text(middle, (top + bottom) / 2, "middle", "f", "no samples");
  }
  const Axis x_axis = XAxis(all, panel.steps), y_axis = YAxis(all, panel.share);
  const auto px = [&](double x) { return left + x_axis.Place(x) * (right - left); };
  const auto py = [&](double y) { return bottom - y_axis.Place(y) * (bottom - top); };
  for (double tick : y_axis.ticks) {
    svg += Line(left, py(tick), right, py(tick), "class=\"g\"");
    svg += Text(left - 7, py(tick) + 4, "end", "f", TickLabel(tick, panel.share));
  }
  for (double tick : x_axis.ticks) {
    svg += Line(px(tick), top, px(tick), bottom, "class=\"g\"");
    svg += Text(px(tick), bottom + 17, "middle", "f", TickLabel(tick, false));
  }
  svg += Line(left, bottom, right, bottom, "class=\"a\"");
  svg += Line(left, top, left, bottom, "class=\"a\"");
  svg += Text(middle, bottom + 36, "middle", "f", panel.x_label);
  svg += absl::StrFormat(
      "<text transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\" "
      "class=\"f\">%s</text>\n",
      x0 + 14, (top + bottom) / 2, Escape(panel.y_label));
  for (size_t i = all.size(); i-- > 0;) {  // the first lies on top
    if (all[i].empty()) continue;
    absl::StrAppend(&svg, "<path class=\"l\" ", StrokeOf(i), " d=\"",
                    Path(all[i], panel.steps, px, py), "\"/>\n");
  }
  return svg;
}

// Sets `height` to what the legend took.
std::string DrawLegend(const std::vector<Panel>& panels, double width, double& height) {
  height = 0.0;
  const Panel* widest = nullptr;
  for (const Panel& panel : panels) {
    if (widest == nullptr || panel.series.size() > widest->series.size()) widest = &panel;
  }
  if (widest == nullptr || widest->series.size() < 2) return "";
  std::string svg;
  double x = 24, y = kHead + 8;
  for (size_t i = 0; i < widest->series.size(); ++i) {
    const std::string& name = widest->series[i].name;
    const double room = 52 + 7.0 * static_cast<double>(name.size());
    if (x > 24 && x + room > width) {
      x = 24;
      y += kLegendRow;
    }
    absl::StrAppend(&svg, Line(x, y, x + 28, y, absl::StrCat("class=\"l\" ", StrokeOf(i))),
                    Text(x + 35, y + 4, "start", "", name));
    x += room;
  }
  height = y + kLegendRow - kHead;
  return svg;
}

}  // namespace

std::vector<double> LinearTicks(double low, double high, int wanted) {
  const double raw = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10.0 * power;
  for (double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= raw) step = factor * power;
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step); i * step <= high * (1 + 1e-12); ++i) {
    ticks.push_back(i * step);
  }
  return ticks;
}

std::vector<double> LogTicks(double low, double high) {
  const bool wide = high / low > 200.0;
  std::vector<double> ticks;
  for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
    for (double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, power);
      if (tick < low || tick > high || (wide && factor != 1.0 && high / low > 2e3)) continue;
      if (wide && factor == 5.0) continue;
      ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string RenderSvg(absl::string_view title, absl::string_view subtitle,
                      const std::vector<Panel>& panels) {
  const double width = 2 * kPanelWidth + 24;
  double legend_height = 0.0;
  const std::string legend = DrawLegend(panels, width, legend_height);
  const double top = kHead + legend_height;
  const double rows = std::ceil(static_cast<double>(panels.size()) / 2.0);
  const double height = top + rows * kPanelHeight + 8;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
      "height=\"%.0f\" role=\"img\" aria-label=\"%s\">\n",
      width, height, width, height, Escape(title));
  absl::StrAppend(&svg, kStyle,
                  "<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n",
                  Text(24, 30, "start", "h", title), Text(24, 50, "start", "f", subtitle), legend);
  for (size_t i = 0; i < panels.size(); ++i) {
    const size_t row = i / 2;
    const size_t column = i % 2;
    svg += DrawPanel(panels[i], 8 + static_cast<double>(column) * (kPanelWidth + 8),
                     top + static_cast<double>(row) * kPanelHeight);
  }
  return svg + "</svg>\n";
}

}  // namespace tessera::benchmarks
