// The flags of tessera-worker that `tessera serve` has, too, and hands to the workers that it
// starts; some also tessera plan. One declaration for all of them.
//
//   Declare(app, kDevice, options.device);               // the worker
//   Declare(app, PassedOn(kDevice), options.device);     // serve: empty, the worker decides
#ifndef TESSERA_PROTO_FLAGS_WORKER_FLAGS_H_
#define TESSERA_PROTO_FLAGS_WORKER_FLAGS_H_

#include "absl/strings/string_view.h"
#include "proto/flags/flag.h"

namespace tessera::flags {

inline constexpr absl::string_view kLoadFormats[] = {"auto", "gguf", "safetensors", "dummy"};
inline constexpr absl::string_view kQuantizations[] = {"fp8"};
inline constexpr absl::string_view kDevices[] = {"auto", "cpu", "cuda"};
inline constexpr absl::string_view kComms[] = {"auto", "mpi", "nccl"};
inline constexpr absl::string_view kInstructionSets[] = {
    "auto", "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx"};

inline constexpr Range kTimeouts = {.lowest = 0.1, .highest = 86400};  // seconds

inline constexpr Flag kModel = {.name = "--model",
                                .help = "A .gguf file or a Hugging Face folder",
                                .value = "PATH"};
inline constexpr Flag kLoadFormat = {
    .name = "--load-format",
    .help = "What --model is; auto: as its name says; dummy: random weights from a config alone",
    .choices = kLoadFormats};
inline constexpr Flag kQuantization = {
    .name = "--quantization",
    .help = "fp8: weights of F32, F16 or BF16 are rounded to 8-bit floats (E4M3, a scale for each "
            "row) while they are loaded; GPUs only",
    .choices = kQuantizations,
    .otherwise = "as the file has them"};
inline constexpr Flag kThreadsPerRank = {
    .name = "--threads-per-rank",
    .help = "Compute threads of each rank; 0: the cores of its host shared among those of its "
            "ranks that compute at the same time",
    .range = Range{.lowest = 0, .highest = 1024}};
inline constexpr Flag kInstructionSet = {
    .name = "--instruction-set",
    .help = "Of the CPU; auto: its best, the others for tests",
    .choices = kInstructionSets,
    .choices_checked = false};  // the device says which of them its machine has
inline constexpr Flag kDevice = {
    .name = "--device",
    .help = "What ranks compute on; cuda: each rank the GPU of its number on its host; auto: cuda "
            "where there is one",
    .choices = kDevices};
inline constexpr Flag kComm = {
    .name = "--comm",
    .help = "How ranks exchange activations; nccl: a GPU for each; mpi: through host memory, ranks "
            "may share a GPU; auto: nccl where it can",
    .choices = kComms};
inline constexpr Flag kDeterministic = {
    .name = "--deterministic",
    .help = "On GPUs: the same tokens whatever else a step computes, at some cost (always so on "
            "cpu)"};
inline constexpr Flag kCommTimeout = {
    .name = "--comm-timeout",
    .help = "Without a sign of life from a rank for so long, however long it computes, the group "
            "ends",
    .range = kTimeouts,
    .unit = "seconds"};

// The flag as serve has it: left out, it is not handed on.
constexpr Flag PassedOn(Flag flag) {
  if (flag.otherwise.empty()) flag.otherwise = "the worker's";
  return flag;
}

}  // namespace tessera::flags

#endif  // TESSERA_PROTO_FLAGS_WORKER_FLAGS_H_
