#include "kernels/cpu/instruction_sets.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tessera::kernels::cpu {
namespace {

struct InstructionSet {
  const char* name;
  const OpsTable* table;  // null: not of this architecture
  bool available;
};

std::vector<InstructionSet> AllSets() {
  std::vector<InstructionSet> sets = {{"scalar", &scalar::kOps, true}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool has_vnni = has_avx512 && __builtin_cpu_supports("avx512vnni");
  sets.push_back({"avx2", &avx2::kOps, has_avx2});
  sets.push_back({"avx512", &avx512::kOps, has_avx512});
  sets.push_back({"avx512vnni", &avx512vnni::kOps, has_vnni});
#else
  for (const char* name : {"avx2", "avx512", "avx512vnni"}) sets.push_back({name, nullptr, false});
#endif
  return sets;
}

}  // namespace

std::vector<const OpsTable*> AvailableTables() {
  std::vector<const OpsTable*> tables;
  for (const InstructionSet& set : AllSets()) {
    if (set.available) tables.push_back(set.table);
  }
  return tables;
}

absl::StatusOr<const OpsTable*> ChooseTable(const std::string& instruction_set) {
  const std::vector<const OpsTable*> tables = AvailableTables();
  if (instruction_set == "auto") return tables.back();
  std::vector<std::string> known = {"auto"};
  for (const InstructionSet& set : AllSets()) {
    known.push_back(set.name);
    if (instruction_set != set.name) continue;
    if (set.available) return set.table;
    const auto name = [](std::string* out, const OpsTable* table) { out->append(table->name); };
    return absl::UnimplementedError(
        absl::StrCat("cpu device: instruction set '", instruction_set,
                     "' is not on this machine; it has: ", absl::StrJoin(tables, ", ", name)));
  }
  return absl::InvalidArgumentError(absl::StrCat("cpu device: instruction set '", instruction_set,
                                                 "' is unknown; expected one of: ",
                                                 absl::StrJoin(known, ", ")));
}

}  // namespace tessera::kernels::cpu
