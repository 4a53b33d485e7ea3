#include "tests/deploy/flags_reference.h"

#include <CLI/CLI.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "coordinator/cli/app.h"
#include "proto/model/sampling_fields.h"
#include "worker/group/worker_options.h"

namespace tessera::testing {
namespace {

constexpr char kIntroduction[] =
    "# Flags, sampling fields, ports, environment\n"
    "\n"
    "Made of the declarations in the code. After a change of one, rewrite it with\n"
    "\n"
    "    TESSERA_REWRITE=1 build/release/bin/deploy_flags_reference_test\n"
    "\n"
    "Every flag can also be given as the environment variable named beside it; the command line\n"
    "wins. `--help` and `--version` stand for themselves. A switch in the environment is `true` or\n"
    "`false`.\n";

struct Row {
  std::string flag, value, standard, environment, meaning;
  std::vector<std::string> commands;
};

std::string Code(absl::string_view text) {
  return text.empty() ? "" : absl::StrCat("`", text, "`");
}

std::string Cell(absl::string_view text) { return absl::StrReplaceAll(text, {{"|", "\\|"}}); }

std::string Names(const CLI::Option& option) {
  if (option.get_positional()) return Code(option.get_name(true, false));
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back(Code("-" + name));
  for (const std::string& name : option.get_lnames()) names.push_back(Code("--" + name));
  return absl::StrJoin(names, ", ");
}

Row RowOf(const CLI::Option& option, const std::string& command) {
  const bool is_switch = option.get_items_expected_max() == 0;
  Row row = {.flag = Names(option),
             .value = is_switch ? "" : option.get_type_name(),
             .standard = Code(option.get_default_str()),
             .environment = Code(option.get_envname()),
             .meaning = option.get_description(),
             .commands = {command}};
  const std::string standard = " (default: ";
  if (const size_t at = row.meaning.rfind(standard); at != std::string::npos) {
    row.standard = row.meaning.substr(at + standard.size());
    row.standard.pop_back();
    row.meaning.resize(at);
  } else if (is_switch) {
    row.standard = "off";
  }
  if (option.get_required()) row.standard = "(must be given)";
  return row;
}

bool Same(const Row& a, const Row& b) {
  return a.flag == b.flag && a.value == b.value && a.standard == b.standard &&
         a.meaning == b.meaning;
}

// Flags in the order of their declarations; one that several commands share stands with the first.
void AddRows(const CLI::App& app, const std::string& command, std::vector<Row>& rows) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->check_name("--help") || option->check_name("--version")) continue;
    const Row row = RowOf(*option, command);
    bool shared = false;
    for (Row& other : rows) {
      if (!Same(other, row)) continue;
      other.commands.push_back(command);
      shared = true;
    }
    if (!shared) rows.push_back(row);
  }
  // Option groups are subcommands without a name.
  const auto all = [](const CLI::App*) { return true; };
  for (const CLI::App* child : app.get_subcommands(all)) {
    AddRows(*child, child->get_name().empty() ? command : "tessera " + child->get_name(), rows);
  }
}

std::vector<Row> AllRows() {
  std::vector<Row> rows;
  coordinator::LookAtFlags([&](const CLI::App& app) { AddRows(app, "tessera", rows); });
  worker::LookAtFlags([&](const CLI::App& app) { AddRows(app, "tessera-worker", rows); });
  return rows;
}

std::string FlagTables(const std::vector<Row>& rows) {
  std::string text;
  std::string command;
  for (const Row& row : rows) {
    if (row.commands.front() != command) {
      command = row.commands.front();
      absl::StrAppend(&text, "\n## `", command,
                      "`\n\n| Flag | Value | Default | Meaning | Environment | Also of |\n"
                      "|---|---|---|---|---|---|\n");
    }
    const std::vector<std::string> others(row.commands.begin() + 1, row.commands.end());
    absl::StrAppend(&text, "| ", row.flag, " | ", Cell(row.value), " | ", Cell(row.standard), " | ",
                    Cell(row.meaning), " | ", row.environment, " | ",
                    absl::StrReplaceAll(absl::StrJoin(others, ", "), {{"tessera ", ""}}), " |\n");
  }
  return text;
}

std::string SamplingTable() {
  std::string text =
      "\n## Sampling fields of a request\n\n"
      "Of `SamplingOptions` in `inference.proto`, and of the JSON of `/v1/completions` and\n"
      "`/v1/chat/completions`; `generate` and `chat` have most of them as flags. Without\n"
      "`max_tokens` a request of `/v1/completions` gets " +
      absl::StrCat(model::kCompletionTokens) +
      ", as OpenAI's.\n\n"
      "| Field | Value | Default | Unit | Meaning |\n|---|---|---|---|---|\n";
  for (const model::SamplingField& field : model::kSamplingFields) {
    absl::StrAppend(&text, "| ", Code(field.name), " | ", model::ValuesText(field), " | ",
                    model::DefaultText(field), " | ", field.unit, " | ", field.help, " |\n");
  }
  return text;
}

std::string PortTable(const std::vector<Row>& rows) {
  std::string text =
      "\n## Ports\n\n| Flag | Program | Default | What listens there |\n|---|---|---|---|\n";
  for (const Row& row : rows) {
    if (!absl::EndsWith(row.flag, "port`")) continue;
    absl::StrAppend(&text, "| ", row.flag, " | ", Code(row.commands.front()), " | ", row.standard,
                    " | ", row.meaning, " |\n");
  }
  return text;
}

std::string EnvironmentTable() {
  std::string text =
      "\n## Environment variables that are no flags\n\n"
      "| Variable | Read by | Meaning |\n|---|---|---|\n";
  for (const EnvironmentVariable& variable : OtherVariables()) {
    absl::StrAppend(&text, "| ", Code(variable.name), " | ", variable.reader, " | ",
                    variable.meaning, " |\n");
  }
  return text;
}

}  // namespace

std::vector<EnvironmentVariable> OtherVariables() {
  return {
      {"TESSERA_STARTUP_TIMES", "both programs", "set: when each part of the start was over, on stderr"},
      {"NO_COLOR", "`tessera`", "set and not empty: no colours"},
      {"TERM", "`tessera`", "`dumb` or unset: no colours"},
      {"TMPDIR", "`tessera serve`", "where left-over session files of mpirun are looked for"},
      {"OMPI_COMM_WORLD_SIZE", "`tessera-worker`", "set by mpirun: it runs under one"},
      {"OMPI_COMM_WORLD_LOCAL_RANK", "`tessera-worker`",
       "set by mpirun: which GPU of its host, which health port"},
      {"OMPI_COMM_WORLD_LOCAL_SIZE", "`tessera-worker`",
       "set by mpirun: who shares the host's cores and /dev/shm"},
      {"PMIX_SERVER_TMPDIR", "`tessera-worker`",
       "set by mpirun: where messages between ranks go if /dev/shm is too small"},
      {"TESSERA_CACHE", "`deploy/fetch-model.sh`", "where the default model is kept"},
      {"XDG_CACHE_HOME", "`deploy/fetch-model.sh`", "likewise, with `/tessera` behind it"},
      {"TESSERA_BUILD_JOBS", "`deploy/build.sh`", "compilers that run at once; else as many as cores"},
      {"TESSERA_BUILD_TIMES", "`deploy/build.sh`", "a file that seconds of configuring and building are added to"},
      {"TESSERA_STUB_GPUS", "the simulated GPUs of tests", "how many there are (4)"},
      {"TESSERA_STUB_MEMORY", "the simulated GPUs of tests", "bytes of each"},
      {"TESSERA_STUB_CAPABILITY", "the simulated GPUs of tests",
       "major compute capability (9); 8: no products of 8-bit floats"},
      {"OMPI_COMM_WORLD_RANK", "the simulated GPUs of tests", "set by mpirun: whose calls these are"},
      {"TESSERA_STUB_SITES", "the simulated GPUs of tests", "file that gets each call of CUDA or NCCL"},
      {"TESSERA_STUB_FAIL", "the simulated GPUs of tests", "the call that fails"},
      {"TESSERA_STUB_FAIL_RANK", "the simulated GPUs of tests", "on which rank (0)"},
      {"TESSERA_STUB_FAIL_CALL", "the simulated GPUs of tests", "which of its calls (1: the first)"},
  };
}

std::multimap<std::string, std::string> DefaultsOfFlags() {
  std::multimap<std::string, std::string> defaults;
  for (const Row& row : AllRows()) {
    const std::vector<std::string> names = absl::StrSplit(row.flag, ", ");
    for (const std::string& name : names) {
      defaults.emplace(absl::StrReplaceAll(name, {{"`", ""}}),
                       absl::StrReplaceAll(row.standard, {{"`", ""}}));
    }
  }
  return defaults;
}

std::string FlagsReference() {
  const std::vector<Row> rows = AllRows();
  return absl::StrCat(kIntroduction, FlagTables(rows), SamplingTable(), PortTable(rows),
                      EnvironmentTable());
}

}  // namespace tessera::testing
