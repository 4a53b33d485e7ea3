// Sends the workloads at a server and writes down what comes back. One thread, which spends its
// time waiting: it shall not disturb a server on the same machine.
//
//   TESSERA_ASSIGN_OR_RETURN(LoadResult result, RunLoad(options));   // blocks until all is
//   answered
//
// Boost.Asio and Beast stay in load_generator.cc.
#ifndef TESSERA_BENCHMARKS_SERVING_LOAD_GENERATOR_H_
#define TESSERA_BENCHMARKS_SERVING_LOAD_GENERATOR_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/serving/openai_wire.h"
#include "benchmarks/serving/request_record.h"
#include "benchmarks/serving/workload.h"

namespace tessera::benchmarks {

struct LoadProgress {
  double elapsed_s = 0.0;
  int64_t sent = 0;
  int64_t answered = 0;
  int64_t failed = 0;
};

struct LoadOptions {
  Target target;
  std::string model;                // empty: the first of /v1/models
  std::string api_key;              // empty: none sent
  std::vector<Workload> workloads;  // checked
  uint64_t seed = 0;
  double request_timeout_s = 600.0;  // from sending a request to the end of its answer
  std::function<void(const LoadProgress&)> on_progress;  // about once a second; may be empty
};

struct LoadResult {
  std::vector<RequestRecord> records;  // in the order in which they ended
  std::string model;
  double tokens_per_word = 1.0;
  bool calibrated = false;                  // tokens_per_word is the server's, not an estimate
  std::vector<std::string> refused_fields;  // that the server does not take, and were left out
  bool interrupted = false;                 // SIGINT or SIGTERM; records holds what had ended
};

// UNAVAILABLE when the server cannot be reached or refuses a first plain request, with its words.
absl::StatusOr<LoadResult> RunLoad(const LoadOptions& options);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_LOAD_GENERATOR_H_
