// Flags that several subcommands share, and how all of them are declared: each --some-flag can also
// be given as TESSERA_SOME_FLAG in the environment.
//
//   AddFlag(app, "--max-tokens", flags->max_tokens, "Length of the answer at most");
#ifndef TESSERA_COORDINATOR_CLI_FLAGS_H_
#define TESSERA_COORDINATOR_CLI_FLAGS_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/cli/client.h"
#include "coordinator/plan/shard_planner.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// "--max-model-len" → "TESSERA_MAX_MODEL_LEN".
std::string EnvironmentName(const std::string& flag);

// The single-dash names people know from vLLM, which CLI11 would read as clusters of letters:
// "-tp" → "--tensor-parallel-size", "-tp=2" likewise, "-pp", "-dp". Nothing after "--" is touched.
std::vector<std::string> RewriteShortFlags(const std::vector<std::string>& args);

// `flag` may carry a single-letter alias first: "-m,--model".
template <typename Value>
CLI::Option* AddFlag(CLI::App& app, const std::string& flag, Value& value,
                     const std::string& help) {
  CLI::Option* option = app.add_option(flag, value, help);
  option->envname(EnvironmentName(flag.substr(flag.find("--"))));
  return option;
}

CLI::Option* AddSwitch(CLI::App& app, const std::string& flag, bool& value,
                       const std::string& help);

// --tensor-parallel-size and what else shapes a group.
void AddLayoutFlags(CLI::App& app, Layout& layout);

// --server HOST:PORT, and who asks: --api-key, --tenant.
void AddServerFlags(CLI::App& app, ServerAddress& server);

// Sampling as the command line says it; what was not given is the server's to choose.
struct SamplingFlags {
  std::optional<int> max_tokens;
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::optional<int> logprobs;
  std::optional<int> min_tokens;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  // Structured output; at most one of these.
  std::string json_schema;
  bool json_object = false;
  std::string regex;
  std::vector<std::string> choices;
};

void AddSamplingFlags(CLI::App& app, SamplingFlags& flags);
v1::SamplingOptions ToOptions(const SamplingFlags& flags);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_FLAGS_H_
