// What tessera_scheduler_scale prints: measured, goal and their ratio, as a table or as JSON.
//
//   ScaleReport report;
//   report.Add({.what = "...", .measured = 31.2, .unit = "us", .goal = 50});
//   std::fputs(report.Table().c_str(), stdout);
#ifndef TESSERA_BENCHMARKS_SERVING_SCALE_REPORT_H_
#define TESSERA_BENCHMARKS_SERVING_SCALE_REPORT_H_

#include <string>
#include <vector>

namespace tessera::benchmarks {

struct ScaleRow {
  std::string what;
  double measured = 0;
  std::string unit;
  double goal = 0;  // at most; 0: none
};

class ScaleReport {
 public:
  void Add(ScaleRow row) { rows_.push_back(std::move(row)); }
  std::string Table() const;
  std::string Json() const;

 private:
  std::vector<ScaleRow> rows_;
};

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SCALE_REPORT_H_
