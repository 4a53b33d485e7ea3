#include "coordinator/cli/flags.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "proto/model/limits.h"
#include "proto/model/sampling_fields.h"

namespace tessera::coordinator {
namespace {

using flags::Declare;
using flags::DeclareWith;
using flags::Flag;
using model::SamplingField;
using model::SamplingKind;

constexpr Range kRanks = {.lowest = 1, .highest = model::kMaxWorldSize};

struct ShortFlag {
  const char* name;
  const char* full;
};
constexpr ShortFlag kShortFlags[] = {{"-tp", "--tensor-parallel-size"},
                                     {"-pp", "--pipeline-parallel-size"},
                                     {"-dp", "--data-parallel-size"}};

std::string Rewritten(const std::string& arg) {
  for (const ShortFlag& flag : kShortFlags) {
    const std::string name = flag.name;
    if (arg == name) return flag.full;
    if (arg.starts_with(name + "=")) return flag.full + arg.substr(name.size());
  }
  return arg;
}

std::string Capitalized(std::string text) {
  text[0] = absl::ascii_toupper(static_cast<unsigned char>(text[0]));
  return text;
}

void AddSamplingFlag(CLI::App& app, const SamplingField& field, v1::SamplingOptions* options) {
  const std::string name = absl::StrCat("--", absl::StrReplaceAll(field.name, {{"_", "-"}}));
  const std::string help = Capitalized(field.help);
  const std::string otherwise = model::DefaultText(field);
  Flag flag = {.name = name, .help = help, .unit = field.unit, .otherwise = otherwise};
  switch (field.kind) {
    case SamplingKind::kInt:
      flag.range = field.range;
      DeclareWith<int>(app, flag,
                       [=](const int& value) { model::SetInt(field, value, options); });
      return;
    case SamplingKind::kFloat:
      flag.range = field.range;
      DeclareWith<float>(app, flag,
                         [=](const float& value) { model::SetFloat(field, value, options); });
      return;
    case SamplingKind::kSeed:
      DeclareWith<uint64_t>(
          app, flag, [=](const uint64_t& value) { model::SetSeed(field, value, options); });
      return;
    case SamplingKind::kTexts:
      DeclareWith<std::vector<std::string>>(
          app, flag, [=](const std::vector<std::string>& values) {
            for (const std::string& value : values) model::AddText(field, value, options);
          });
      return;
    case SamplingKind::kBool:
      flags::DeclareSwitchWith(app, flag,
                               [=](bool value) { model::SetBool(field, value, options); });
      return;
    case SamplingKind::kTokenIds:
    case SamplingKind::kBias:
    case SamplingKind::kStructured:
      return;  // AddSamplingFlags' own, or none
  }
}

}  // namespace

std::vector<std::string> RewriteShortFlags(const std::vector<std::string>& args) {
  std::vector<std::string> rewritten;
  bool flags_end = false;
  for (const std::string& arg : args) {
    flags_end = flags_end || arg == "--";
    rewritten.push_back(flags_end ? arg : Rewritten(arg));
  }
  return rewritten;
}

void AddLayoutFlags(CLI::App& app, Layout& layout) {
  Declare(app,
          {.name = "--tensor-parallel-size",
           .help = "Ranks that share every layer, by heads and columns; also -tp",
           .range = kRanks},
          layout.tensor_parallel);
  Declare(app,
          {.name = "--pipeline-parallel-size",
           .help = "Stages that the layers are cut into; also -pp",
           .range = kRanks},
          layout.pipeline_parallel);
  Declare(app,
          {.name = "--tensor-split",
           .help = "Weights per tensor-parallel rank, e.g. 3,1",
           .value = "NUMBERS",
           .otherwise = "even"},
          layout.tensor_split)
      ->delimiter(',');
  Declare(app,
          {.name = "--layer-split",
           .help = "Layers per stage, e.g. 16,14",
           .value = "NUMBERS",
           .otherwise = "even by cost"},
          layout.layer_split)
      ->delimiter(',');
  Declare(app,
          {.name = "--max-model-len",
           .help = "Prompt plus answer at most",
           .range = flags::kFromOne,
           .unit = "tokens",
           .otherwise = "the model's own"},
          layout.max_model_len);
  Declare(app,
          {.name = "--max-num-seqs",
           .help = "Requests that run at once",
           .range = flags::kFromOne,
           .unit = "requests"},
          layout.max_sequences_per_step);
  Declare(app,
          {.name = "--max-num-batched-tokens",
           .help = "What one step computes at most",
           .range = flags::kFromOne,
           .unit = "tokens"},
          layout.max_tokens_per_step);
  flags::DeclareBytes(app,
                      {.name = "--kv-cache-memory",
                       .help = "For the KV cache on every rank, e.g. 512MB",
                       .otherwise = "a few full contexts, 1 GiB at most"},
                      layout.kv_bytes_per_rank);
  Declare(app,
          {.name = "--gpu-memory-utilization",
           .help = "On GPUs, without --kv-cache-memory: which part of their free memory weights "
                   "and KV cache take",
           .range = Range{.lowest = 0.01, .highest = 1}},
          layout.gpu_memory_utilization);
  flags::DeclareWords<v1::DataType>(
      app,
      {.name = "--kv-cache-dtype",
       .help = "What keys and values are kept as; auto: float32 for a float32 model alone"},
      {{"auto", v1::DATA_TYPE_UNSPECIFIED},
       {"float32", v1::DATA_TYPE_F32},
       {"bfloat16", v1::DATA_TYPE_BF16}},
      layout.kv_type);
}

void AddServerFlags(CLI::App& app, ServerAddress& server) {
  Declare(app,
          {.name = "--server", .help = "Where `tessera serve` listens", .value = "HOST:PORT"},
          server.host_port);
  Declare(app, {.name = "--api-key", .help = "Where the server asks for one", .value = "KEY"},
          server.api_key);
  Declare(app, {.name = "--tenant", .help = "For whom (x-tenant-id)", .value = "NAME"},
          server.tenant);
}

void AddSamplingFlags(CLI::App& app, SamplingFlags& flags) {
  for (const SamplingField& field : model::kSamplingFields) {
    if (field.flag) AddSamplingFlag(app, field, &flags.options);
  }
  CLI::App& structured = *app.add_option_group("Structured output");
  Declare(structured,
          {.name = "--json-schema", .help = "The answer is JSON of this schema", .value = "SCHEMA"},
          flags.json_schema);
  Declare(structured, {.name = "--json-object", .help = "The answer is a JSON object"},
          flags.json_object);
  Declare(structured,
          {.name = "--regex",
           .help = "The answer matches this regular expression",
           .value = "PATTERN"},
          flags.regex);
  Declare(structured,
          {.name = "--choice", .help = "The answer is one of these; several times"},
          flags.choices);
  structured.require_option(0, 1);
}

v1::SamplingOptions ToOptions(const SamplingFlags& flags) {
  v1::SamplingOptions options = flags.options;
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
