// tessera generate: continues a prompt.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "coordinator/cli/answer_printer.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/input.h"
#include "coordinator/cli/terminal.h"
#include "proto/base/utf8.h"

namespace tessera::coordinator {
namespace {

using flags::Declare;

struct GenerateFlags {
  ServerAddress server;
  std::string model;
  std::string prompt;
  SamplingFlags sampling;
  bool json = false;
};

int RunGenerate(const GenerateFlags& flags, bool prompt_given) {
  v1::GenerateRequest request;
  request.set_model(flags.model);
  *request.mutable_sampling() = ToOptions(flags.sampling);
  if (prompt_given) {
    request.set_text(SanitizeUtf8(flags.prompt));
  } else if (IsTerminal(STDIN_FILENO)) {
    PrintError("no prompt: give --prompt TEXT, or text on standard input");
    return 2;
  } else {
    const absl::StatusOr<std::string> prompt = ReadStandardInput();
    if (!prompt.ok()) return ExitWith(prompt.status());
    request.set_text(SanitizeUtf8(*prompt));
  }
  const auto client = Client::Connect(flags.server);
  const auto answer = PrintAnswer(*client, flags.json, [&](const Client::ChunkCallback& on_chunk) {
    return client->Generate(request, on_chunk);
  });
  if (answer.ok()) return 0;
  return absl::IsCancelled(answer.status()) ? 130 : ExitWith(answer.status());
}

}  // namespace

Command AddGenerate(CLI::App& parent) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* app = parent.add_subcommand("generate", "Continue a prompt, streaming the text");
  AddServerFlags(*app, flags->server);
  Declare(*app, kServedName, flags->model);
  CLI::Option* prompt =
      Declare(*app,
              {.name = "--prompt", .help = "The text to continue", .otherwise = "standard input"},
              flags->prompt);
  AddSamplingFlags(*app, flags->sampling);
  Declare(*app, {.name = "--json", .help = "Print one JSON object at the end"}, flags->json);
  app->footer(
      "Examples:\n"
      "  tessera generate --prompt \"Once upon a time\" --max-tokens 64\n"
      "  tessera generate --temperature 0 --json < prompt.txt");
  return {app, [flags, prompt] { return RunGenerate(*flags, prompt->count() > 0); }};
}

}  // namespace tessera::coordinator
