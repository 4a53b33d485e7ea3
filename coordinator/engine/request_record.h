// A request from its admission to its end, as its client knows it: who hears of it, what has been
// said, when it came and until when it may take. It is of no group: the router makes it, an engine
// has it while its group computes it, and gives it back when that group is lost. Not thread-safe.
//
//   RequestRecord record(...);
//   record.sink->Push(record.output.Take(emission).message);
//   record.Finish(std::move(last), now, metrics);   // or Fail, or Cancelled: once
#ifndef TESSERA_COORDINATOR_ENGINE_REQUEST_RECORD_H_
#define TESSERA_COORDINATOR_ENGINE_REQUEST_RECORD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/engine/request.h"
#include "coordinator/engine/request_output.h"
#include "coordinator/engine/request_times.h"
#include "coordinator/engine/resumption.h"
#include "coordinator/engine/served_model.h"

namespace tessera::coordinator {

struct RequestRecord {
  std::shared_ptr<const ServedModel> model;  // owns the tokenizer of `output`
  RequestOutput output;
  RequestTimes times;
  absl::Time deadline = absl::InfiniteFuture();
  std::string request_id = {};                // as the client knows it
  std::shared_ptr<Resumption> resumption = nullptr;  // since its group was lost, until a new token
  int64_t id = 0;                             // the router's to set, and
  std::shared_ptr<TokenSink> sink = nullptr;  // the client's

  // It has a token, or has ended: whoever waited for that after a loss hears of it.
  void Resumed(absl::Time now);

  // What the client hears last, and what the metrics count (null: nothing is counted).
  void Finish(v1::GenerateResponse last, absl::Time now, Metrics* metrics);
  void Fail(const absl::Status& why, absl::Time now, Metrics* metrics);
  void Cancelled(absl::Time now, Metrics* metrics);  // it hears nothing

 private:
  void Count(const absl::Status& how, const std::string& reason, absl::Time now,
             Metrics* metrics) const;
};

// What a client is told when its group dies under it. Names no path and no address.
absl::Status GroupLostError();

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_REQUEST_RECORD_H_
