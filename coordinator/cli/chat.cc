// tessera chat: one question, or a conversation.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
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

struct ChatFlags {
  ServerAddress server;
  std::string model;
  std::string message;
  std::string system;
  SamplingFlags sampling;
  bool json = false;
};

void AddMessage(v1::ChatRequest& request, const char* role, const std::string& content) {
  v1::ChatMessage* message = request.add_messages();
  message->set_role(role);
  message->set_content(SanitizeUtf8(content));  // a terminal may send anything
}

v1::ChatRequest NewConversation(const ChatFlags& flags) {
  v1::ChatRequest request;
  request.set_model(flags.model);
  *request.mutable_sampling() = ToOptions(flags.sampling);
  if (!flags.system.empty()) AddMessage(request, "system", flags.system);
  return request;
}

absl::StatusOr<std::string> Ask(Client& client, const v1::ChatRequest& request, bool json) {
  return PrintAnswer(client, json, [&](const Client::ChunkCallback& on_chunk) {
    return client.Chat(request, on_chunk);
  });
}

int AskOnce(Client& client, const ChatFlags& flags, const std::string& message) {
  v1::ChatRequest request = NewConversation(flags);
  AddMessage(request, "user", message);
  const auto answer = Ask(client, request, flags.json);
  if (answer.ok()) return 0;
  return absl::IsCancelled(answer.status()) ? 130 : ExitWith(answer.status());
}

// Lines until the end of input. A cancelled or failed answer takes its question with it.
int Converse(Client& client, const ChatFlags& flags) {
  const Style style = StyleFor(STDOUT_FILENO);
  std::cout << style.Dim("/reset starts anew, /exit or Ctrl-D ends, Ctrl-C stops an answer")
            << "\n";
  v1::ChatRequest request = NewConversation(flags);
  std::string line;
  while (std::cout << style.Bold("> ") << std::flush, std::getline(std::cin, line)) {
    const std::string message(absl::StripAsciiWhitespace(line));
    if (message == "/exit" || message == "/quit") return 0;
    if (message == "/reset") request = NewConversation(flags);
    if (message.empty() || message == "/reset") continue;
    AddMessage(request, "user", message);
    const auto answer = Ask(client, request, flags.json);
    if (answer.ok()) {
      AddMessage(request, "assistant", *answer);
      continue;
    }
    request.mutable_messages()->RemoveLast();
    if (!absl::IsCancelled(answer.status())) PrintError(answer.status().message());
  }
  std::cout << std::endl;
  return 0;
}

int RunChat(const ChatFlags& flags, bool message_given) {
  const auto client = Client::Connect(flags.server);
  if (message_given) return AskOnce(*client, flags, flags.message);
  if (IsTerminal(STDIN_FILENO)) return Converse(*client, flags);
  const absl::StatusOr<std::string> message = ReadStandardInput();
  if (!message.ok()) return ExitWith(message.status());
  return AskOnce(*client, flags, *message);
}

}  // namespace

Command AddChat(CLI::App& parent) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* app = parent.add_subcommand("chat", "Talk with the model");
  AddServerFlags(*app, flags->server);
  Declare(*app, kServedName, flags->model);
  CLI::Option* message = Declare(*app,
                                 {.name = "--message",
                                  .help = "Ask this and end",
                                  .otherwise = "a conversation, line by line"},
                                 flags->message);
  Declare(*app, {.name = "--system", .help = "The system message in front"}, flags->system);
  AddSamplingFlags(*app, flags->sampling);
  Declare(*app, {.name = "--json", .help = "Print every answer as a JSON object"}, flags->json);
  app->footer(
      "Examples:\n"
      "  tessera chat\n"
      "  tessera chat --message \"What is the capital of France?\" --temperature 0");
  return {app, [flags, message] { return RunChat(*flags, message->count() > 0); }};
}

}  // namespace tessera::coordinator
