// Flags that several subcommands share. How any flag is declared: proto/flags; each --some-flag can
// also be given as TESSERA_SOME_FLAG in the environment.
//
//   AddLayoutFlags(app, options.layout);
//   AddSamplingFlags(app, flags.sampling);
//   ...
//   *request.mutable_sampling() = ToOptions(flags.sampling);
#ifndef TESSERA_COORDINATOR_CLI_FLAGS_H_
#define TESSERA_COORDINATOR_CLI_FLAGS_H_

#include <string>
#include <vector>

#include "coordinator/cli/client.h"
#include "coordinator/plan/shard_planner.h"
#include "proto/flags/declare.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// The single-dash names people know from vLLM, which CLI11 would read as clusters of letters:
// "-tp" → "--tensor-parallel-size", "-tp=2" likewise, "-pp", "-dp". Nothing after "--" is touched.
std::vector<std::string> RewriteShortFlags(const std::vector<std::string>& args);

// --tensor-parallel-size and what else shapes a group.
void AddLayoutFlags(CLI::App& app, Layout& layout);

// --model of those who ask a server.
inline constexpr flags::Flag kServedName = {.name = "--model",
                                            .help = "The model's served name",
                                            .value = "NAME",
                                            .otherwise = "the one served"};

// --server HOST:PORT, and who asks: --api-key, --tenant.
void AddServerFlags(CLI::App& app, ServerAddress& server);

// Sampling as the command line says it; what was not given is the server's to choose.
struct SamplingFlags {
  v1::SamplingOptions options;  // but structured
  // Structured output; at most one of these.
  std::string json_schema;
  bool json_object = false;
  std::string regex;
  std::vector<std::string> choices;
};

// The fields of proto/model/sampling_fields.h that say so, and structured output. `flags` outlives
// the parsing.
void AddSamplingFlags(CLI::App& app, SamplingFlags& flags);
v1::SamplingOptions ToOptions(const SamplingFlags& flags);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_FLAGS_H_
