#include "coordinator/cli/flags.h"

#include <limits>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tessera::coordinator {
namespace {

constexpr int kMaxRanks = 4096;
constexpr int kMaxInt = std::numeric_limits<int>::max();

struct ShortFlag {
  const char* name;
  const char* full;
};
constexpr ShortFlag kShortFlags[] = {{"-tp", "--tensor-parallel-size"},
                                     {"-pp", "--pipeline-parallel-size"},
                                     {"-dp", "--data-parallel-size"}};

const std::map<std::string, v1::DataType> kKvTypes = {
    {"auto", v1::DATA_TYPE_UNSPECIFIED}, {"float32", v1::DATA_TYPE_F32}, {"bfloat16", v1::DATA_TYPE_BF16}};

// A type's name becomes its number. Returns what is wrong, or nothing.
std::string ReadKvType(std::string& value) {
  const auto found = kKvTypes.find(value);
  if (found == kKvTypes.end()) {
    return absl::StrCat("'", value, "': expected auto, float32 or bfloat16");
  }
  value = absl::StrCat(static_cast<int>(found->second));
  return "";
}

std::string Rewritten(const std::string& arg) {
  for (const ShortFlag& flag : kShortFlags) {
    const std::string name = flag.name;
    if (arg == name) return flag.full;
    if (arg.starts_with(name + "=")) return flag.full + arg.substr(name.size());
  }
  return arg;
}

}  // namespace

std::string EnvironmentName(const std::string& flag) {
  const std::string words = absl::StrReplaceAll(flag.substr(2), {{"-", "_"}});
  return absl::StrCat("TESSERA_", absl::AsciiStrToUpper(words));
}

std::vector<std::string> RewriteShortFlags(const std::vector<std::string>& args) {
  std::vector<std::string> rewritten;
  bool flags_end = false;
  for (const std::string& arg : args) {
    flags_end = flags_end || arg == "--";
    rewritten.push_back(flags_end ? arg : Rewritten(arg));
  }
  return rewritten;
}

CLI::Option* AddSwitch(CLI::App& app, const std::string& flag, bool& value,
                       const std::string& help) {
  return app.add_flag(flag, value, help)->envname(EnvironmentName(flag.substr(flag.find("--"))));
}

void AddLayoutFlags(CLI::App& app, Layout& layout) {
  AddFlag(app, "--tensor-parallel-size", layout.tensor_parallel,
          "Ranks that share every layer, by heads and columns; also -tp")
      ->check(CLI::Range(1, kMaxRanks))
      ->capture_default_str();
  AddFlag(app, "--pipeline-parallel-size", layout.pipeline_parallel,
          "Stages that the layers are cut into; also -pp")
      ->check(CLI::Range(1, kMaxRanks))
      ->capture_default_str();
  AddFlag(app, "--tensor-split", layout.tensor_split,
          "Weights per tensor-parallel rank, e.g. 3,1 (default: even)")
      ->delimiter(',')
      ->allow_extra_args(false);
  AddFlag(app, "--layer-split", layout.layer_split,
          "Layers per stage, e.g. 16,14 (default: even by cost)")
      ->delimiter(',')
      ->allow_extra_args(false);
  AddFlag(app, "--max-model-len", layout.max_model_len,
          "Prompt plus answer at most (default: the model's own)")
      ->check(CLI::Range(1, kMaxInt));
  AddFlag(app, "--max-num-seqs", layout.max_sequences_per_step, "Requests that run at once")
      ->check(CLI::Range(1, kMaxInt))
      ->capture_default_str();
  AddFlag(app, "--max-num-batched-tokens", layout.max_tokens_per_step,
          "Tokens that one step computes at most")
      ->check(CLI::Range(1, kMaxInt))
      ->capture_default_str();
  AddFlag(app, "--kv-cache-memory", layout.kv_bytes_per_rank,
          "Bytes for the KV cache on every rank, e.g. 512MB (default: a few full contexts)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  AddFlag(app, "--gpu-memory-utilization", layout.gpu_memory_utilization,
          "On GPUs, without --kv-cache-memory: which part of their free memory weights and KV cache "
          "take")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
  AddFlag(app, "--kv-cache-dtype", layout.kv_type,
          "What keys and values are kept as: float32, bfloat16, or auto: float32 for a float32 "
          "model alone")
      ->transform(CLI::Validator(ReadKvType, "TYPE"))
      ->default_str("auto");
}

void AddServerFlags(CLI::App& app, ServerAddress& server) {
  AddFlag(app, "--server", server.host_port, "Where `tessera serve` listens, HOST:PORT")
      ->capture_default_str();
  AddFlag(app, "--api-key", server.api_key, "Where the server asks for one");
  AddFlag(app, "--tenant", server.tenant, "For whom (x-tenant-id)");
}

void AddSamplingFlags(CLI::App& app, SamplingFlags& flags) {
  AddFlag(app, "--max-tokens", flags.max_tokens, "Length of the answer at most");
  AddFlag(app, "--temperature", flags.temperature, "0 (greedy) .. 100 (default 1)");
  AddFlag(app, "--top-k", flags.top_k, "Draw from the k likeliest tokens (default: off)");
  AddFlag(app, "--top-p", flags.top_p, "Draw from the likeliest tokens that sum to p (default 1)");
  AddFlag(app, "--min-p", flags.min_p, "Drop tokens below this share of the likeliest (default 0)");
  AddFlag(app, "--seed", flags.seed, "The same seed draws the same tokens");
  AddFlag(app, "--stop", flags.stop, "End before this text; may be given several times")
      ->allow_extra_args(false);
  AddSwitch(app, "--ignore-eos", flags.ignore_eos, "Go on past the end of the answer");
  AddFlag(app, "--logprobs", flags.logprobs, "Alternatives to tell with every token, 0 .. 20");
  AddFlag(app, "--min-tokens", flags.min_tokens, "No end of the answer before");
  AddFlag(app, "--repetition-penalty", flags.repetition_penalty,
          "Above 1: what prompt or answer have said becomes less likely (default 1)");
  AddFlag(app, "--presence-penalty", flags.presence_penalty, "-2 .. 2, for what was said at all");
  AddFlag(app, "--frequency-penalty", flags.frequency_penalty, "-2 .. 2, for each time");
  CLI::Option_group* structured = app.add_option_group("Structured output");
  structured->add_option("--json-schema", flags.json_schema, "The answer is JSON of this schema");
  structured->add_flag("--json-object", flags.json_object, "The answer is a JSON object");
  structured->add_option("--regex", flags.regex, "The answer matches this regular expression");
  structured->add_option("--choice", flags.choices, "The answer is one of these; several times")
      ->allow_extra_args(false);
  structured->require_option(0, 1);
}

v1::SamplingOptions ToOptions(const SamplingFlags& flags) {
  v1::SamplingOptions options;
  if (flags.max_tokens) options.set_max_tokens(*flags.max_tokens);
  if (flags.temperature) options.set_temperature(*flags.temperature);
  if (flags.top_k) options.set_top_k(*flags.top_k);
  if (flags.top_p) options.set_top_p(*flags.top_p);
  if (flags.min_p) options.set_min_p(*flags.min_p);
  if (flags.seed) options.set_seed(*flags.seed);
  for (const std::string& stop : flags.stop) options.add_stop(stop);
  if (flags.ignore_eos) options.set_ignore_eos(true);
  if (flags.logprobs) options.set_logprobs(*flags.logprobs);
  if (flags.min_tokens) options.set_min_tokens(*flags.min_tokens);
  if (flags.repetition_penalty) options.set_repetition_penalty(*flags.repetition_penalty);
  if (flags.presence_penalty) options.set_presence_penalty(*flags.presence_penalty);
  if (flags.frequency_penalty) options.set_frequency_penalty(*flags.frequency_penalty);
  v1::StructuredOutput structured;
  if (!flags.json_schema.empty()) structured.set_json_schema(flags.json_schema);
  if (flags.json_object) structured.set_json_object(true);
  if (!flags.regex.empty()) structured.set_regex(flags.regex);
  for (const std::string& choice : flags.choices) structured.mutable_choice()->add_values(choice);
  if (structured.kind_case() != v1::StructuredOutput::KIND_NOT_SET) {
    *options.mutable_structured() = std::move(structured);
  }
  return options;
}

}  // namespace tessera::coordinator
