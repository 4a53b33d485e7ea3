// What one kind of client does, and how a JSON file says it. Pure but for histogram files, which
// the length distributions read.
//
// A scenario file runs several workloads side by side; its keys are the flags' names with
// underscores, and what a workload leaves out comes from the command line:
//
//   {"workloads": [
//     {"name": "flood", "tenant": "flood", "num_requests": 1000, "prompt_tokens": "fixed:64"},
//     {"name": "quiet", "tenant": "quiet", "concurrency": 1, "num_requests": 20, "start_s": 2}]}
#ifndef TESSERA_BENCHMARKS_SERVING_WORKLOAD_H_
#define TESSERA_BENCHMARKS_SERVING_WORKLOAD_H_

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::benchmarks {

struct Workload {
  std::string name = "default";
  std::string endpoint = "completions";  // or "chat"
  std::string tenant;                    // sent as x-tenant-id; empty: not sent
  std::vector<std::pair<std::string, std::string>> headers;

  // Arrivals: at most one of the two is set; neither means all at once.
  double request_rate = 0.0;  // conversations per second, Poisson; 0: not
  int concurrency = 0;        // this many clients, each starts its next as one ends; 0: not
  double start_s = 0.0;       // after the measurement began

  // A conversation is `turns` requests; with one turn it is a request. At least one bound is set.
  int num_requests = 0;     // conversations in all; 0: bounded by duration_s alone
  double duration_s = 0.0;  // no conversation begins later than this after start_s; 0: no bound
  int warmup = 0;           // conversations sent, one after another, before the measurement
  int turns = 1;

  std::string prompt_tokens = "fixed:128";  // of each turn's own words: length_distribution.h
  std::string output_tokens = "fixed:64";
  int shared_prefix_tokens = 0;  // in front of the first turn
  int num_prefixes = 1;          // different ones

  bool ignore_eos = false;
  double temperature = 0.0;
  // More of the request's body (priority, top_p, ...); goes over what we would send.
  nlohmann::json extra_body = nlohmann::json::object();
};

// INVALID_ARGUMENT naming the workload, the field, what it holds and what is allowed.
absl::Status CheckWorkload(const Workload& workload);

// The workloads of a scenario file, each checked. `defaults` fills what is left out; `source` is
// the file's name in errors. INVALID_ARGUMENT names the place; unknown keys are errors.
absl::StatusOr<std::vector<Workload>> ParseScenario(absl::string_view text,
                                                    absl::string_view source,
                                                    const Workload& defaults);

// The same keys, for the report.
nlohmann::json WorkloadToJson(const Workload& workload);

// "K: V" or "K:V"; the name must be an HTTP token, the value printable.
absl::StatusOr<std::pair<std::string, std::string>> ParseHeader(absl::string_view text);

// "ttft:MS,tpot:MS,e2el:MS", in any order, each optional but not all.
struct Goodput {
  double ttft_ms = std::numeric_limits<double>::infinity();
  double tpot_ms = std::numeric_limits<double>::infinity();
  double e2el_ms = std::numeric_limits<double>::infinity();
};
absl::StatusOr<Goodput> ParseGoodput(absl::string_view text);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_WORKLOAD_H_
