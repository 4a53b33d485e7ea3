// Sampling over a vocabulary that is split over ranks, as threads; and the same by the definition,
// over the whole row and in double. For tests.
//
//   const Row row = MakeRow(Params(0.7f, 40, 1, 0), /*position=*/3, RandomLogits(1000, 2, 1));
//   EXPECT_EQ(Ids(SampleOnAllRanks({row}, Split(1000, 3), 256)[0])[0], SampledByDefinition(row));
#ifndef TESSERA_TESTS_WORKER_ENGINE_SPLIT_SAMPLING_H_
#define TESSERA_TESTS_WORKER_ENGINE_SPLIT_SAMPLING_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

v1::SamplingParams Params(float temperature, int top_k, float top_p, float min_p,
                          int num_logprobs = -1);
v1::SamplingParams GreedyLike();

// Normal, of that standard deviation.
std::vector<float> RandomLogits(int count, double spread, uint32_t seed);

// An uneven deal of `size` ids over `ranks`, or one with the given ends.
std::vector<v1::Range> Split(int size, int ranks);
std::vector<v1::Range> SplitAt(const std::vector<int>& ends);

struct Row {
  v1::SamplingParams params;
  int64_t position = 0;
  std::vector<float> logits;
  v1::LogitsState logits_state;
};
Row MakeRow(const v1::SamplingParams& params, int64_t position, const std::vector<float>& logits);

struct Outcome {
  absl::Status status;
  std::vector<v1::SampledToken> tokens;
  int64_t rows_gathered = 0;
};

// run(tp_rank, communicator) on a thread for each of `ranks`.
void OnAllRanks(int ranks, absl::FunctionRef<void(int, Communicator&)> run);

// The part of rows (rows of logits, one after another) that `own` says.
std::vector<float> PartOf(const std::vector<std::vector<float>>& rows, const v1::Range& own);

// Every rank's outcome of sampling the rows as one batch, of sequence 7.
std::vector<Outcome> SampleOnAllRanks(const std::vector<Row>& rows,
                                      const std::vector<v1::Range>& vocab, int64_t max_candidates);

std::vector<int32_t> Ids(const Outcome& outcome);

// The row to sample from by the formulas of cluster.proto, rounded to float; -infinity where
// nothing may be sampled.
std::vector<float> ProcessedByDefinition(const Row& row);

// The tokens that bans and cuts leave, most probable first.
std::vector<int32_t> KeptByDefinition(const Row& row);

// The token: Gumbel-max over what is left.
int32_t SampledByDefinition(const Row& row);

// ln softmax of a row.
std::vector<double> LogSoftmax(const std::vector<float>& logits);

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_SPLIT_SAMPLING_H_
