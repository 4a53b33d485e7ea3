#include "coordinator/engine/request_record.h"

#include <utility>

namespace tessera::coordinator {

absl::Status GroupLostError() {
  return absl::UnavailableError("the worker group was lost before the request finished");
}

void RequestRecord::Resumed(absl::Time now) {
  if (resumption == nullptr) return;
  resumption->OneResumed(now);
  resumption = nullptr;
}

void RequestRecord::Finish(v1::GenerateResponse last, absl::Time now, Metrics* metrics) {
  Resumed(now);
  const char* reason = last.finish_reason() == v1::FINISH_REASON_STOP ? "stop" : "length";
  sink->Finish(std::move(last));
  Count(absl::OkStatus(), reason, now, metrics);
}

void RequestRecord::Fail(const absl::Status& why, absl::Time now, Metrics* metrics) {
  Resumed(now);
  sink->Fail(why);
  Count(why, "", now, metrics);
}

void RequestRecord::Cancelled(absl::Time now, Metrics* metrics) {
  Resumed(now);
  Count(absl::CancelledError(), "", now, metrics);
}

void RequestRecord::Count(const absl::Status& how, const std::string& reason, absl::Time now,
                          Metrics* metrics) const {
  if (metrics == nullptr) return;
  EndedRequest ended = times.Ended(now);
  ended.code = how.code();
  ended.finish_reason = reason;
  ended.prompt_tokens = output.prompt_tokens();
  ended.generation_tokens = output.completion_tokens();
  metrics->RequestEnded(ended);
}

}  // namespace tessera::coordinator
