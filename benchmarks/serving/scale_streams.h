// Many concurrent streams through the coordinator, over a simulated group that answers at once:
// what is measured is the coordinator alone.
//
//   StreamsResult result = MeasureStreams({.streams = 10000, .door = Door::kFrontDoor});
#ifndef TESSERA_BENCHMARKS_SERVING_SCALE_STREAMS_H_
#define TESSERA_BENCHMARKS_SERVING_SCALE_STREAMS_H_

#include <string>

namespace tessera::benchmarks {

enum class Door {
  kRouter,  // Router::Submit with prompt ids; sinks that count
  kFrontDoor,   // FrontDoor::Generate with prompt text: checked, tokenized, counted by Metrics
  kGrpc,        // a real server on the loopback; the clients are another process
};

struct StreamsOptions {
  int streams = 10'000;
  int tokens = 128;  // per stream
  Door door = Door::kRouter;
  std::string program;  // kGrpc: this program, started once more for the clients
};

struct StreamsResult {
  double tokens_per_second = 0;     // from the first step to the last answer, wall time
  double cpu_micros_per_token = 0;  // of this process
  double cores = 0;                 // that this process kept busy meanwhile
  double kib_per_stream = 0;        // resident, once all of them run
  double most_running = 0;
  double failed = 0;  // streams that ended otherwise than by length
};

// Exits with a message when the coordinator refuses the set-up.
StreamsResult MeasureStreams(const StreamsOptions& options);

// The clients' process (kGrpc): opens `streams` streams to a server, reads them to their end and
// prints how many failed. Returns the exit status.
int RunGrpcClients(const std::string& address, int streams, int tokens);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SCALE_STREAMS_H_
