// A step's attention cut into tiles (ops.h) and dealt out to the threads.
//
// Usually a thread takes whole tiles. A few tokens far into their sequences are too few tiles for
// the threads: their chunks of positions are dealt out instead, and added up in order. The bits are
// the same either way.
//
// Borrows ops and workers. Threads: the device's caller.
//
//   attention_.Attend(args, step);
#ifndef TESSERA_KERNELS_CPU_ATTENTION_WORK_H_
#define TESSERA_KERNELS_CPU_ATTENTION_WORK_H_

#include <vector>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/workers.h"
#include "kernels/views.h"

namespace tessera::kernels::cpu {

class AttentionWork {
 public:
  AttentionWork(const OpsTable* ops, Workers* workers) : ops_(*ops), workers_(*workers) {}

  // All tokens of the step.
  void Attend(const AttentionArgs& args, const StepView& step);

 private:
  bool HasLongTile(const AttentionShape& shape) const;
  void CutIntoTiles(const AttentionShape& shape, const StepView& step);
  void AttendByTile(const AttentionArgs& args);
  void AttendByChunk(const AttentionArgs& args);

  const OpsTable& ops_;
  Workers& workers_;
  std::vector<AttentionTile> tiles_;
  Scratch states_;
};

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_ATTENTION_WORK_H_
