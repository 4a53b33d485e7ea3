// What was seen of one request. All times are seconds since the measurement began.
#ifndef TESSERA_BENCHMARKS_SERVING_REQUEST_RECORD_H_
#define TESSERA_BENCHMARKS_SERVING_REQUEST_RECORD_H_

#include <string>
#include <vector>

namespace tessera::benchmarks {

struct RequestRecord {
  int workload = 0;  // index
  int turn = 0;      // of its conversation
  double sent_s = 0.0;
  double end_s = 0.0;                // the answer was complete, or failed
  // When each piece of the answer came: text, or a token that completes no character yet.
  std::vector<double> piece_times_s;
  bool has_usage = false;            // the counts below are the server's
  int prompt_tokens = 0;             // without usage: as many as were meant
  int output_tokens = 0;             // without usage: the pieces of text
  int cached_tokens = 0;
  // Empty: answered. Otherwise what the report counts by: "HTTP 429", "connection", "timeout",
  // "broken stream", "stream error".
  std::string failure;
  std::string failure_detail;  // for people
};

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_REQUEST_RECORD_H_
