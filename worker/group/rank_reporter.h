// Tells the coordinator how this rank is doing, from a thread of its own: the engine thread only
// leaves the news. Progress is throttled; a change of phase goes out at once. While the rank serves a
// report goes out several times a second, idle or not: the coordinator takes it as a sign of life.
// Lost reports are not repeated: the next one is about to come.
//
//   auto reporter = RankReporter::Start("127.0.0.1:50052", identity);
//   reporter->Progress(bytes_loaded, bytes_total);
//   reporter->Serving("cpu avx2", [&] { return clock.Read(); });
#ifndef TESSERA_WORKER_GROUP_RANK_REPORTER_H_
#define TESSERA_WORKER_GROUP_RANK_REPORTER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::worker {

class RankReporter {
 public:
  // `identity`: every field that does not change (group, rank, host, pid, port, threads).
  static std::unique_ptr<RankReporter> Start(const std::string& coordinator,
                                             v1::RankReport identity);
  // Sends what is still to be said, for half a second at most.
  virtual ~RankReporter() = default;

  virtual void Progress(int64_t bytes_loaded, int64_t bytes_total) = 0;
  virtual void BeforeLoad(int64_t resident_bytes) = 0;
  // `times` is asked now and then as long as the reporter lives.
  virtual void Serving(const std::string& device, std::function<v1::StepTimes()> times) = 0;
  // Returns when the coordinator has it, or after `patience`.
  virtual void Failed(const std::string& error, absl::Duration patience) = 0;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_RANK_REPORTER_H_
