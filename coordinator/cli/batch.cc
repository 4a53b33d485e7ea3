// tessera batch: the requests of a file in OpenAI's batch format, their results into another.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "coordinator/cli/batch_runner.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/interrupts.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/openai/answer.h"
#include "coordinator/openai/request.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(200), kPlainLine = absl::Seconds(10);

using flags::Declare;

struct BatchFlags {
  ServerAddress server;
  std::string input;
  std::string output;
  int concurrency = 64;
};

absl::Status SetEchoedText(Client& client, const v1::GenerateRequest& request, int prompt,
                           OpenAiAnswer& answer) {
  if (request.has_text()) {
    answer.SetPromptText(prompt, request.text());
    return absl::OkStatus();
  }
  v1::DetokenizeRequest ids;
  ids.set_model(request.model());
  *ids.mutable_ids() = request.token_ids().ids();
  TESSERA_ASSIGN_OR_RETURN(const v1::DetokenizeResponse text, client.Detokenize(ids));
  answer.SetPromptText(prompt, text.text());
  return absl::OkStatus();
}

// One request as the HTTP door would answer it, over gRPC.
absl::StatusOr<BatchReply> Answer(Client& client, const BatchRequest& request,
                                  const std::string& served_model) {
  const RequestContext context{.request_id = absl::StrCat("batch-", getpid(), "-", request.line),
                               .created = absl::ToUnixSeconds(absl::Now())};
  TESSERA_ASSIGN_OR_RETURN(OpenAiRequest parsed,
                           request.chat ? ParseChatCompletion(request.body, context)
                                        : ParseCompletion(request.body, context));
  parsed.style.stream = false;
  if (parsed.style.model.empty()) parsed.style.model = served_model;
  OpenAiAnswer answer(parsed.style);
  BatchReply reply{.request_id = parsed.style.id, .body = {}};
  int prompt = 0;
  const auto on_chunk = [&](const v1::GenerateResponse& chunk) {
    reply.completion_tokens += chunk.usage().completion_tokens();
    answer.Add(prompt, chunk);
  };
  if (parsed.chat) TESSERA_RETURN_IF_ERROR(client.Chat(*parsed.chat, on_chunk));
  for (const v1::GenerateRequest& one : parsed.prompts) {
    if (parsed.style.echo) {
      TESSERA_RETURN_IF_ERROR(SetEchoedText(client, one, prompt, answer));
    }
    TESSERA_RETURN_IF_ERROR(client.Generate(one, on_chunk));
    ++prompt;
  }
  reply.body = answer.Whole();
  return reply;
}

// How many requests the file holds, for the progress bar.
int64_t CountLines(std::istream& input) {
  int64_t lines = 0;
  for (std::string text; std::getline(input, text);) {
    lines += absl::StripAsciiWhitespace(text).empty() ? 0 : 1;
  }
  input.clear();
  input.seekg(0);
  return lines;
}

std::string ShortTime(absl::Duration time) {
  return absl::FormatDuration(absl::Ceil(time, absl::Seconds(1)));
}

// "[====>     ]  42%  420 of 1000, 1234 tokens/s, 1m20s left, 3 failed".
std::string ProgressLine(const BatchProgress& progress, int64_t total, absl::Duration elapsed) {
  constexpr int kWidth = 24;
  const int64_t fresh = progress.answered + progress.failed, done = progress.skipped + fresh;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  std::string bar(static_cast<size_t>(share * kWidth), '=');
  if (bar.size() < kWidth) bar += '>';
  bar.resize(kWidth, ' ');
  const double seconds = std::max(absl::ToDoubleSeconds(elapsed), 1e-3);
  std::string line =
      absl::StrFormat("[%s] %3d%%  %d of %d, %.0f tokens/s", bar, static_cast<int>(share * 100),
                      done, total, static_cast<double>(progress.completion_tokens) / seconds);
  if (fresh > 0 && done < total) {
    absl::StrAppend(
        &line, ", ",
        ShortTime(elapsed * static_cast<double>(total - done) / static_cast<double>(fresh)),
        " left");
  }
  if (progress.failed > 0) absl::StrAppend(&line, ", ", progress.failed, " failed");
  return line;
}

std::string Summary(const BatchProgress& progress, absl::Duration elapsed) {
  const double seconds = std::max(absl::ToDoubleSeconds(elapsed), 1e-3);
  std::string line = absl::StrFormat(
      "%d answered, %d failed, %d skipped as done before; %d tokens in %.1f s, %.1f tokens/s",
      progress.answered, progress.failed, progress.skipped, progress.completion_tokens, seconds,
      static_cast<double>(progress.completion_tokens) / seconds);
  return line;
}

using Clients = std::vector<std::unique_ptr<Client>>;

// Shows the progress until the runner is through.
void Watch(BatchRunner& runner, const Clients& clients, int64_t total) {
  const bool redraws = IsTerminal(STDERR_FILENO);
  const absl::Time start = absl::Now();
  absl::Time next_line = start + (redraws ? kRedraw : kPlainLine);
  while (!runner.Wait(kRedraw)) {
    if (!runner.status().ok()) {  // over: each tick, since a call may just have begun
      for (const auto& client : clients) client->Cancel();
    }
    if (absl::Now() < next_line) continue;
    next_line = absl::Now() + (redraws ? kRedraw : kPlainLine);
    const std::string line = ProgressLine(runner.Progress(), total, absl::Now() - start);
    std::cerr << (redraws ? "\r\033[K" : "") << line << (redraws ? "" : "\n") << std::flush;
  }
  if (redraws) std::cerr << "\r\033[K" << std::flush;
}

int RunBatch(const BatchFlags& flags) {
  std::ifstream input(flags.input, std::ios::binary);
  if (!input) {
    PrintError(absl::StrCat("cannot read ", flags.input));
    return 2;
  }
  absl::StatusOr<BatchResults> done = ReadBatchResults(flags.output);
  if (!done.ok()) return ExitWith(done.status());
  std::ofstream output(flags.output, std::ios::binary | std::ios::app);
  if (!output) {
    PrintError(absl::StrCat("cannot write ", flags.output));
    return 2;
  }
  const absl::StatusOr<v1::ListModelsResponse> models = Client::Connect(flags.server)->ListModels();
  if (!models.ok()) return ExitWith(models.status());
  const std::string model = models->models().empty() ? "default" : models->models(0).name();
  const int64_t total = CountLines(input);
  const int64_t failed_before = done->errors;

  Clients clients;  // one call at a time each
  for (int i = 0; i < flags.concurrency; ++i) clients.push_back(Client::Connect(flags.server));
  Interrupts interrupts;
  const absl::Time start = absl::Now();
  BatchRunner runner({.concurrency = flags.concurrency}, input, output, *std::move(done),
                     [&](int slot, const BatchRequest& request) {
                       return Answer(*clients[static_cast<size_t>(slot)], request, model);
                     });
  const InterruptCallback on_interrupt(interrupts, [&] { runner.Stop(); });
  runner.Start();
  Watch(runner, clients, total);
  const BatchProgress progress = runner.Progress();
  std::cerr << Summary(progress, absl::Now() - start) << "\n";
  if (absl::IsCancelled(runner.status())) return 130;
  if (!runner.status().ok()) return ExitWith(runner.status());
  if (failed_before > 0) {
    std::cerr << failed_before << " lines of " << flags.output << " had failed before\n";
  }
  return progress.failed + failed_before == 0 ? 0 : 1;
}

}  // namespace

Command AddBatch(CLI::App& parent) {
  auto flags = std::make_shared<BatchFlags>();
  CLI::App* app = parent.add_subcommand("batch", "Answer a file of requests, in OpenAI's format");
  AddServerFlags(*app, flags->server);
  Declare(*app,
          {.name = "input", .help = "The requests, one JSON object a line", .value = "PATH"},
          flags->input)
      ->required();
  Declare(*app,
          {.name = "-o,--output",
           .help = "The results; those it has already are not asked for again",
           .value = "PATH"},
          flags->output)
      ->required();
  Declare(*app,
          {.name = "--concurrency",
           .help = "On their way at a time",
           .range = Range{.lowest = 1, .highest = 1024},
           .unit = "requests"},
          flags->concurrency);
  app->footer(
      "A line: {\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
      "\"body\":{...}}\n"
      "Interrupted, the same command goes on where it stopped. Exit status 1 when a line "
      "failed.\n\n"
      "Example:\n"
      "  tessera batch in.jsonl -o out.jsonl");
  return {app, [flags] { return RunBatch(*flags); }};
}

}  // namespace tessera::coordinator
