// tessera perplexity: how well a served model predicts a text.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/input.h"
#include "coordinator/cli/interrupts.h"
#include "coordinator/cli/perplexity_windows.h"
#include "coordinator/cli/terminal.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"
#include "proto/model/sampling_fields.h"

namespace tessera::coordinator {
namespace {

constexpr int kDefaultContext = 2048;
// Of text in one call: the server refuses more than it is sure to take.
constexpr size_t kPieceBytes = size_t{512} << 10;

using flags::Declare;

struct PerplexityFlags {
  ServerAddress server;
  std::string file;
  int context = 0;
  int stride = 0;
};

struct Score {
  int64_t tokens = 0;
  double log_likelihood = 0;  // natural

  double MeanNll() const { return -log_likelihood / static_cast<double>(tokens); }
};

// The model's own bound on a window, and the options within it.
absl::StatusOr<WindowOptions> ChooseWindows(Client& client, const PerplexityFlags& flags) {
  TESSERA_ASSIGN_OR_RETURN(const v1::ListModelsResponse models, client.ListModels());
  if (models.models().empty()) return absl::UnavailableError("no model is served");
  const int64_t most = models.models(0).max_model_len();
  WindowOptions options{flags.context, flags.stride};
  if (options.context == 0) options.context = std::min<int64_t>(most, kDefaultContext);
  if (options.context > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context is ", options.context, "; this model takes at most ", most));
  }
  if (options.stride == 0) options.stride = std::max<int64_t>(1, options.context / 2);
  if (options.stride >= options.context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--stride is ", options.stride, "; expected less than the context of ", options.context));
  }
  return options;
}

// Where to cut so that the piece is no longer than kPieceBytes: behind its last line break, or at
// least between characters.
size_t PieceLength(absl::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  const size_t line = text.substr(0, kPieceBytes).rfind('\n');
  return line != text.npos && line > 0 ? line + 1 : WholeUtf8Prefix(text.substr(0, kPieceBytes));
}

absl::StatusOr<std::vector<int32_t>> Ids(Client& client, absl::string_view text) {
  std::vector<int32_t> ids;
  while (!text.empty()) {
    const size_t length = PieceLength(text);
    v1::TokenizeRequest request;
    request.set_text(std::string(text.substr(0, length)));
    request.set_add_special_tokens(ids.empty());
    TESSERA_ASSIGN_OR_RETURN(const v1::TokenizeResponse piece, client.Tokenize(request));
    ids.insert(ids.end(), piece.ids().begin(), piece.ids().end());
    text.remove_prefix(length);
  }
  return ids;
}

absl::StatusOr<double> ScoreWindow(Client& client, const std::vector<int32_t>& ids,
                                   const PerplexityWindow& window) {
  v1::ScoreRequest request;
  const auto add = [&](int64_t begin, int64_t end, v1::TokenIds* to) {
    to->mutable_ids()->Add(ids.begin() + begin, ids.begin() + end);
  };
  add(window.begin, window.first_scored, request.mutable_token_ids());
  add(window.first_scored, window.end, request.add_continuations()->mutable_token_ids());
  TESSERA_ASSIGN_OR_RETURN(const v1::ScoreResponse response, client.Score(request));
  if (response.scores_size() != 1) {
    return absl::InternalError(
        absl::StrCat("the server sent ", response.scores_size(), " scores; expected 1"));
  }
  return response.scores(0).log_likelihood();
}

void ShowProgress(const Score& score, int64_t total) {
  const bool redraws = IsTerminal(STDERR_FILENO);
  std::cerr << (redraws ? "\r\033[K" : "")
            << absl::StrFormat("%d of %d tokens, perplexity so far %.4f", score.tokens, total,
                               std::exp(score.MeanNll()))
            << (redraws ? "" : "\n") << std::flush;
}

absl::StatusOr<Score> ScoreText(Client& client, const std::vector<int32_t>& ids,
                                const WindowOptions& options) {
  Score score;
  const auto total = static_cast<int64_t>(ids.size());
  for (const PerplexityWindow& window : PerplexityWindows(total, options)) {
    TESSERA_ASSIGN_OR_RETURN(const double log_likelihood, ScoreWindow(client, ids, window));
    score.tokens += window.end - window.first_scored;
    score.log_likelihood += log_likelihood;
    if (window.end < total) ShowProgress(score, total);
  }
  if (IsTerminal(STDERR_FILENO)) std::cerr << "\r\033[K" << std::flush;
  return score;
}

absl::StatusOr<Score> Perplexity(Client& client, const PerplexityFlags& flags,
                                 const std::string& text) {
  TESSERA_ASSIGN_OR_RETURN(const WindowOptions options, ChooseWindows(client, flags));
  TESSERA_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Ids(client, text));
  if (ids.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", ids.size(), " tokens; expected at least 2"));
  }
  return ScoreText(client, ids, options);
}

int RunPerplexity(const PerplexityFlags& flags) {
  const absl::StatusOr<std::string> file = ReadFile(flags.file);
  if (!file.ok()) {
    PrintError(file.status().message());
    return 2;
  }
  const std::string text = SanitizeUtf8(*file);
  const auto client = Client::Connect(flags.server);
  Interrupts interrupts;
  const InterruptCallback on_interrupt(interrupts, [&] { client->Cancel(); });
  const absl::StatusOr<Score> score = Perplexity(*client, flags, text);
  if (!score.ok()) return absl::IsCancelled(score.status()) ? 130 : ExitWith(score.status());
  std::cout << absl::StrFormat("tokens      %d\nmean NLL    %.6f\nperplexity  %.4f\n",
                               score->tokens, score->MeanNll(), std::exp(score->MeanNll()));
  return 0;
}

}  // namespace

Command AddPerplexity(CLI::App& parent) {
  auto flags = std::make_shared<PerplexityFlags>();
  CLI::App* app = parent.add_subcommand("perplexity", "How well the model predicts a text");
  AddServerFlags(*app, flags->server);
  Declare(*app, {.name = "file", .help = "The text", .value = "PATH"}, flags->file)->required();
  Declare(*app,
          {.name = "--context",
           .help = "One window",
           .range = Range{.lowest = 2, .highest = model::kMostTokens},
           .unit = "tokens",
           .otherwise = "what the model takes, 2048 at most"},
          flags->context);
  Declare(*app,
          {.name = "--stride",
           .help = "What each further window scores",
           .range = Range{.lowest = 1, .highest = model::kMostTokens},
           .unit = "tokens",
           .otherwise = "half the context"},
          flags->stride);
  app->footer("Example:\n  tessera perplexity book.txt --context 1024 --stride 512");
  return {app, [flags] { return RunPerplexity(*flags); }};
}

}  // namespace tessera::coordinator
