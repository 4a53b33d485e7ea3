// A request whose prompt is tokens, and whoever hears its answer: what doors hand to the router.
//
//   PreparedRequest request{.prompt_ids = ids, .sampling = sampling};
//   TESSERA_ASSIGN_OR_RETURN(const int64_t id, router->Submit(std::move(request), sink));
#ifndef TESSERA_COORDINATOR_ENGINE_REQUEST_H_
#define TESSERA_COORDINATOR_ENGINE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/schedule/token_constraint.h"
#include "coordinator/text/tokenizer/text_stream.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Receives one request's output. Called on an engine's thread; must not block. After Finish or Fail
// nothing more is called.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // No usage set. A finish_reason ends that choice while others go on.
  virtual void Push(v1::GenerateResponse chunk) = 0;
  // The last message of all: finish_reason (of its choice) and usage set.
  virtual void Finish(v1::GenerateResponse last) = 0;
  virtual void Fail(absl::Status why) = 0;
};

struct ServedModel;

struct PreparedRequest {
  std::vector<int32_t> prompt_ids;
  std::shared_ptr<const ServedModel> model = nullptr;  // that it is for; null: whichever is served
  v1::SamplingOptions sampling;  // checked by Submit
  std::string request_id;
  std::string tenant;
  int32_t priority = 0;
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time arrival = absl::InfinitePast();      // InfinitePast: when it is submitted
  TextBefore text_before = TextBefore::kNothing;  // kPrompt: the answer continues the prompt's text
  // What sampling.structured was compiled to; null without.
  std::shared_ptr<const TokenConstraint> constraint = nullptr;
  // Not -1: a score. Nothing is generated; the one message, Finish's, holds in prompt_logprobs one
  // entry for each token from this position on (at least 1), with sampling.prompt_logprobs
  // alternatives each.
  int score_from = -1;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_REQUEST_H_
