// In the place of kernels/cpu/instruction_sets.cc: the portable kernels alone.
#include "absl/strings/str_cat.h"
#include "kernels/cpu/instruction_sets.h"

namespace tessera::kernels::cpu {

std::vector<const OpsTable*> AvailableTables() { return {&scalar::kOps}; }

absl::StatusOr<const OpsTable*> ChooseTable(const std::string& instruction_set) {
  if (instruction_set == "auto" || instruction_set == "scalar") return &scalar::kOps;
  return absl::NotFoundError(
      absl::StrCat("cpu device: instruction set '", instruction_set, "': this program has scalar"));
}

}  // namespace tessera::kernels::cpu
