// Two reports beside each other, with the ratio of every figure. Pure.
//
//   TESSERA_ASSIGN_OR_RETURN(std::string table, CompareReports(a, "on.json", b, "off.json"));
#ifndef TESSERA_BENCHMARKS_SERVING_COMPARE_H_
#define TESSERA_BENCHMARKS_SERVING_COMPARE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::benchmarks {

// Of the texts of two --json files. Workloads are paired by name, or as they are when each file has
// one. INVALID_ARGUMENT for what is no report, or when no workload pairs.
absl::StatusOr<std::string> CompareReports(absl::string_view a, absl::string_view a_name,
                                           absl::string_view b, absl::string_view b_name);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_COMPARE_H_
