// Which of the compiled instruction sets this machine has. Pure; asks the CPU at each call.
//
//   const OpsTable* best = AvailableTables().back();
#ifndef TESSERA_KERNELS_CPU_INSTRUCTION_SETS_H_
#define TESSERA_KERNELS_CPU_INSTRUCTION_SETS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cpu/ops.h"

namespace tessera::kernels::cpu {

// From the plainest to the best.
std::vector<const OpsTable*> AvailableTables();

// "auto": the best. INVALID_ARGUMENT for a name this build does not know, UNIMPLEMENTED for a set
// this machine lacks.
absl::StatusOr<const OpsTable*> ChooseTable(const std::string& instruction_set);

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_INSTRUCTION_SETS_H_
