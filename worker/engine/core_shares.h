// How the ranks of a host that compute on its CPUs share its cores.
//
// Where all ranks are on one host and nobody said how many threads each should have, the stages of
// a pipeline take turns, each on all cores: the coordinator then sends one step at a time (Hello::
// time_sliced_stages), for all sequences together, and its weights are read once. Stages at work at
// the same time would share the cores, and read their weights once for each of the steps between
// them, over the same bus.
//
//   hello.set_time_sliced_stages(StagesAreTimeSliced({.ranks = 4, .ranks_on_host = 4}));
//   int threads = ThreadsOf({.ranks = 4, .ranks_on_host = 4, .cores = 8},
//   plan.tensor_parallel_size());
#ifndef TESSERA_WORKER_ENGINE_CORE_SHARES_H_
#define TESSERA_WORKER_ENGINE_CORE_SHARES_H_

namespace tessera::worker {

struct CoreShares {
  int ranks = 1;  // of the group
  int ranks_on_host = 1;
  int cores = 1;             // of the host
  int threads_per_rank = 0;  // as the user said; 0: nothing
};

bool StagesAreTimeSliced(const CoreShares& shares);

// Whether the ranks of a host have more threads than cores between them.
bool CoresAreShared(const CoreShares& shares, int stage_ranks);

// Compute threads of each rank, at least 1. `stage_ranks`: of one stage of the pipeline.
int ThreadsOf(const CoreShares& shares, int stage_ranks);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_CORE_SHARES_H_
