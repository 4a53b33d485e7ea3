#include "kernels/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tessera::kernels::cpu {
namespace {

#if defined(__x86_64__)
// The CPU has tiles of bytes and bfloat16, and the kernel lets this process use them (it must be
// asked, before the first use and before threads that will use them are started).
bool MayUseTiles() {
  constexpr unsigned kTiles = 1u << 22 | 1u << 24 | 1u << 25;  // bf16, tile, int8
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTiles) != kTiles) return false;
#if defined(__linux__)
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

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
  const bool has_bf16 = has_vnni && __builtin_cpu_supports("avx512bf16");
  sets.push_back({"avx512bf16", &avx512bf16::kOps, has_bf16});
  sets.push_back({"amx", &amx::kOps, has_bf16 && MayUseTiles()});
#else
  for (const char* name : {"avx2", "avx512", "avx512vnni", "avx512bf16", "amx"}) {
    sets.push_back({name, nullptr, false});
  }
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
