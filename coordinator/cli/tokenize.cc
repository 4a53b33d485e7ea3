// tessera tokenize: text ↔ ids, by a model file or by a running server.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/describe.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/input.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/text/tokenizer/text_stream.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "proto/base/status_macros.h"
#include "proto/base/utf8.h"
#include "proto/flags/worker_flags.h"

namespace tessera::coordinator {
namespace {

using nlohmann::json;

using flags::Declare;
using flags::Flag;

struct TokenizeFlags {
  std::string model;
  ServerAddress server;
  std::string text;
  std::vector<int> decode;
  bool add_special = false;
  bool parse_special = false;
  bool json = false;
};

struct Pieces {
  std::vector<int> ids;
  std::vector<std::string> bytes;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> LocalTokenizer(const TokenizeFlags& flags) {
  TESSERA_ASSIGN_OR_RETURN(const v1::ModelDescription model, DescribeModel({.model = flags.model}));
  if (model.tokenizer().kind() == v1::TOKENIZER_KIND_UNSPECIFIED) {
    return absl::FailedPreconditionError("this model has no tokenizer");
  }
  return Tokenizer::Create(model.tokenizer());
}

absl::StatusOr<Pieces> Encode(const TokenizeFlags& flags, const std::string& text) {
  Pieces pieces;
  if (flags.model.empty()) {
    v1::TokenizeRequest request;
    request.set_text(SanitizeUtf8(text));
    request.set_add_special_tokens(flags.add_special);
    request.set_parse_special(flags.parse_special);
    TESSERA_ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                             Client::Connect(flags.server)->Tokenize(request));
    pieces.ids.assign(response.ids().begin(), response.ids().end());
    pieces.bytes.assign(response.tokens().begin(), response.tokens().end());
    return pieces;
  }
  TESSERA_ASSIGN_OR_RETURN(const auto tokenizer, LocalTokenizer(flags));
  TESSERA_ASSIGN_OR_RETURN(pieces.ids,
                           tokenizer->Encode(text, {.add_special = flags.add_special,
                                                    .parse_special = flags.parse_special}));
  for (int id : pieces.ids) pieces.bytes.push_back(tokenizer->TokenBytes(id));
  return pieces;
}

absl::StatusOr<std::string> Decode(const TokenizeFlags& flags) {
  if (flags.model.empty()) {
    v1::DetokenizeRequest request;
    request.mutable_ids()->Assign(flags.decode.begin(), flags.decode.end());
    request.set_skip_special_tokens(false);
    TESSERA_ASSIGN_OR_RETURN(const v1::DetokenizeResponse response,
                             Client::Connect(flags.server)->Detokenize(request));
    return response.text();
  }
  TESSERA_ASSIGN_OR_RETURN(const auto tokenizer, LocalTokenizer(flags));
  return tokenizer->Decode(flags.decode, /*skip_special=*/false);
}

// One token per line: its id, and its bytes as a C string would show them.
void PrintPieces(const Pieces& pieces) {
  for (size_t i = 0; i < pieces.ids.size(); ++i) {
    std::cout << absl::StrFormat("%8d  \"%s\"\n", pieces.ids[i],
                                 absl::Utf8SafeCEscape(pieces.bytes[i]));
  }
  std::cerr << StyleFor(STDERR_FILENO).Dim(absl::StrFormat("%d tokens", pieces.ids.size()))
            << std::endl;
}

json ToJson(const Pieces& pieces) {
  json object = {{"ids", pieces.ids}, {"tokens", json::array()}};
  for (const std::string& bytes : pieces.bytes) object["tokens"].push_back(SanitizeUtf8(bytes));
  return object;
}

absl::Status RunDecode(const TokenizeFlags& flags) {
  TESSERA_ASSIGN_OR_RETURN(const std::string text, Decode(flags));
  if (flags.json) {
    std::cout << json({{"text", text}}).dump(2) << std::endl;
  } else {
    std::cout << text << std::endl;
  }
  return absl::OkStatus();
}

absl::Status RunEncode(const TokenizeFlags& flags, bool text_given) {
  std::string text = flags.text;
  if (!text_given) {
    TESSERA_ASSIGN_OR_RETURN(text, ReadStandardInput());
  }
  TESSERA_ASSIGN_OR_RETURN(const Pieces pieces, Encode(flags, text));
  if (flags.json) {
    std::cout << ToJson(pieces).dump(2) << std::endl;
  } else {
    PrintPieces(pieces);
  }
  return absl::OkStatus();
}

}  // namespace

Command AddTokenize(CLI::App& parent) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* app = parent.add_subcommand("tokenize", "Show a text's tokens, or the text of tokens");
  Flag model = flags::kModel;
  model.otherwise = "ask --server";
  Declare(*app, model, flags->model);
  AddServerFlags(*app, flags->server);
  CLI::Option* text = Declare(
      *app, {.name = "--text", .help = "The text", .otherwise = "standard input"}, flags->text);
  CLI::Option* decode =
      Declare(*app,
              {.name = "--decode",
               .help = "Ids to turn back into text, e.g. 1,2,3",
               .value = "NUMBERS"},
              flags->decode)
          ->delimiter(',')
          ->excludes(text);
  Declare(*app,
          {.name = "--add-special-tokens", .help = "BOS and EOS where the model has them"},
          flags->add_special);
  Declare(*app, {.name = "--parse-special", .help = "Take \"<|im_end|>\" as its token"},
          flags->parse_special);
  Declare(*app, {.name = "--json", .help = "Print JSON"}, flags->json);
  app->footer(
      "Examples:\n"
      "  tessera tokenize --model model.gguf --text \"Hello, world\"\n"
      "  tessera tokenize --decode 19556,28,905");
  return {app, [flags, text, decode] {
            const absl::Status status =
                decode->count() > 0 ? RunDecode(*flags) : RunEncode(*flags, text->count() > 0);
            return status.ok() ? 0 : ExitWith(status);
          }};
}

}  // namespace tessera::coordinator
