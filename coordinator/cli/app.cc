#include "coordinator/cli/app.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/terminal.h"

namespace tessera::coordinator {
namespace {

constexpr char kFooter[] = R"(
Every --some-flag can also be given as TESSERA_SOME_FLAG in the environment.

Examples:
  tessera serve --model model.gguf -tp 2 -pp 2
  tessera chat --message "What is the capital of France?"
  tessera status)";

// "tessera serve", or "tessera" while no subcommand was recognized.
std::string ProgramName(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? app.get_name()
                        : absl::StrCat(app.get_name(), " ", parsed.front()->get_name());
}

int UsageError(const CLI::App& app, const std::string& message) {
  PrintError(absl::StrCat(message, "; see ", ProgramName(app), " --help"));
  return 2;
}

std::string Unexpected(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  if (extras.empty()) return "";
  const bool flag = absl::StartsWith(extras.front(), "-");
  return absl::StrCat(flag ? "unknown flag " : "unexpected argument ", extras.front());
}

// A first word that is no subcommand, or "".
std::string UnknownCommand(const CLI::App& app, const std::vector<std::string>& args) {
  if (args.empty() || absl::StartsWith(args.front(), "-")) return "";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == args.front()) return "";
  }
  return args.front();
}

int Parse(CLI::App& app, std::vector<std::string> args) {
  if (args.empty()) {
    std::cerr << app.help();
    return 2;
  }
  const std::string unknown = UnknownCommand(app, args);
  if (!unknown.empty()) return UsageError(app, absl::StrCat("unknown command ", unknown));
  std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
  try {
    app.parse(std::move(args));
  } catch (const CLI::Success& help_or_version) {
    app.exit(help_or_version);
    return 0;
  } catch (const CLI::ParseError& error) {
    // A mistyped flag explains a missing one, not the other way around.
    const std::string unexpected = Unexpected(app);
    return UsageError(app, unexpected.empty() ? flags::MistakeText(error) : unexpected);
  }
  return -1;
}

struct Program {
  Program();
  CLI::App app;
  std::vector<Command> commands;
};

Program::Program() : app("Tessera: one language model, split over many workers", "tessera") {
  flags::UsePlainHelp(app);
  app.set_version_flag("--version", std::string("tessera ") + TESSERA_VERSION, "Print the version");
  app.require_subcommand(1);
  app.footer(kFooter);
  commands = {AddServe(app), AddGenerate(app), AddChat(app),  AddStatus(app),
              AddPlan(app),  AddTokenize(app), AddBatch(app), AddPerplexity(app)};
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& args) {
  Program program;
  const int usage = Parse(program.app, RewriteShortFlags(args));
  if (usage >= 0) return usage;
  for (const Command& command : program.commands) {
    if (command.app->parsed()) return command.run();
  }
  return 2;
}

void LookAtFlags(const std::function<void(const CLI::App&)>& look) {
  const Program program;
  look(program.app);
}

}  // namespace tessera::coordinator
