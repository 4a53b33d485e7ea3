#include "coordinator/text/chat/format.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "coordinator/text/python_strip.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Turns = absl::Span<const ChatTurn>;

absl::Status RoleError(size_t index, const std::string& role, absl::string_view expected) {
  return wire::FieldError(absl::StrCat("messages[", index, "].role"),
                          absl::StrCat("is ", Quoted(role), "; expected ", expected));
}

absl::Status CheckRoles(const std::vector<ChatTurn>& turns) {
  if (turns.empty()) return wire::FieldError("messages", "is empty");
  for (size_t i = 0; i < turns.size(); ++i) {
    const std::string& role = turns[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return RoleError(i, role, "system, user or assistant");
    }
  }
  return absl::OkStatus();
}

// A conversation of a family in which user and assistant alternate, after an optional system
// message.
struct Alternating {
  const std::string* system = nullptr;
  Turns turns;
};

absl::StatusOr<Alternating> SplitAlternating(const ChatFormat& format,
                                             const std::vector<ChatTurn>& turns) {
  Alternating split{nullptr, turns};
  if (turns[0].role == "system") {
    if (format.system_placement == SystemPlacement::kRefused) {
      return RoleError(0, "system", "user: the model's chat template has no system messages");
    }
    split = {&turns[0].content, Turns(turns).subspan(1)};
  }
  const size_t offset = turns.size() - split.turns.size();
  if (split.turns.empty()) {
    return wire::FieldError("messages", "has only a system message; expected one of the user too");
  }
  for (size_t i = 0; i < split.turns.size(); ++i) {
    const absl::string_view expected = i % 2 == 0 ? "user" : "assistant";
    if (split.turns[i].role != expected) {
      return RoleError(offset + i, split.turns[i].role,
                       absl::StrCat(expected, ": user and assistant alternate"));
    }
  }
  return split;
}

void AddChatMlTurn(absl::string_view role, const ChatPrompt& content, ChatPrompt& prompt) {
  prompt.Literal("<|im_start|>").Literal(role).Literal("\n").Append(content).Literal(
      "<|im_end|>\n");
}

// Qwen3: the answers before the user's last question lose their thoughts; one after it keeps them,
// in a uniform shape.
ChatPrompt WithThinking(const std::string& content, bool after_last_question, bool is_last) {
  constexpr absl::string_view kOpen = "<think>", kClose = "</think>";
  absl::string_view answer = content, thought;
  const size_t first_close = answer.find(kClose);
  if (first_close != answer.npos) {
    thought = StripRight(answer.substr(0, first_close), '\n');
    const size_t open = thought.rfind(kOpen);
    if (open != thought.npos) thought = thought.substr(open + kOpen.size());
    thought = StripLeft(thought, '\n');
    answer = StripLeft(answer.substr(answer.rfind(kClose) + kClose.size()), '\n');
  }
  ChatPrompt turn;
  if (!after_last_question || (!is_last && thought.empty())) return turn.Content(answer);
  return turn.Literal("<think>\n")
      .Content(StripRight(StripLeft(thought, '\n'), '\n'))
      .Literal("\n</think>\n\n")
      .Content(StripLeft(answer, '\n'));
}

bool IsToolResponse(absl::string_view content) {
  return absl::StartsWith(content, "<tool_response>") &&
         absl::EndsWith(content, "</tool_response>");
}

size_t LastQuestion(const std::vector<ChatTurn>& turns) {
  for (size_t i = turns.size(); i-- > 0;) {
    if (turns[i].role == "user" && !IsToolResponse(turns[i].content)) return i;
  }
  return turns.size() - 1;
}

ChatPrompt RenderChatMl(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  ChatPrompt prompt;
  if (turns[0].role != "system" && !format.default_system.empty()) {
    AddChatMlTurn("system", ChatPrompt().Literal(format.default_system), prompt);
  }
  const size_t last_question = LastQuestion(turns);
  for (size_t i = 0; i < turns.size(); ++i) {
    const ChatTurn& turn = turns[i];
    if (format.drops_thinking && turn.role == "assistant") {
      const bool is_last = i + 1 == turns.size();
      AddChatMlTurn("assistant", WithThinking(turn.content, i > last_question, is_last), prompt);
    } else {
      AddChatMlTurn(turn.role, ChatPrompt().Content(turn.content), prompt);
    }
  }
  return prompt.Literal("<|im_start|>assistant\n");
}

void AddLlama3Turn(absl::string_view role, const ChatPrompt& content, ChatPrompt& prompt) {
  prompt.Literal("<|start_header_id|>").Literal(role).Literal("<|end_header_id|>\n\n");
  prompt.Append(content).Literal("<|eot_id|>");
}

ChatPrompt RenderLlama3(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  ChatPrompt prompt;
  Turns rest = turns;
  if (!format.system_preamble.empty()) {
    ChatPrompt system;
    system.Literal(format.system_preamble);
    if (turns[0].role == "system") {
      system.Content(PythonStrip(turns[0].content));
      rest.remove_prefix(1);
    }
    AddLlama3Turn("system", system, prompt);
  }
  for (const ChatTurn& turn : rest) {
    AddLlama3Turn(turn.role, ChatPrompt().Content(PythonStrip(turn.content)), prompt);
  }
  return prompt.Literal("<|start_header_id|>assistant<|end_header_id|>\n\n");
}

ChatPrompt RenderZephyr(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  ChatPrompt prompt;
  for (const ChatTurn& turn : turns) {
    prompt.Literal("<|").Literal(turn.role).Literal("|>\n").Content(turn.content);
    prompt.Literal(format.eos_text).Literal("\n");
  }
  return prompt.Literal("<|assistant|>\n");
}

ChatPrompt RenderLlama2(const ChatFormat& format, const Alternating& chat) {
  ChatPrompt prompt;
  for (size_t i = 0; i < chat.turns.size(); ++i) {
    ChatPrompt content;
    if (i == 0 && chat.system != nullptr) {
      content.Literal("<<SYS>>\n").Content(*chat.system).Literal("\n<</SYS>>\n\n");
    }
    content.Content(chat.turns[i].content).Strip();
    if (chat.turns[i].role == "user") {
      // The first BOS is the tokenizer's.
      prompt.Literal(i == 0 ? "" : format.bos_text);
      prompt.Literal("[INST] ").Append(content).Literal(" [/INST]");
    } else {
      prompt.Literal(" ").Append(content).Literal(" ").Literal(format.eos_text);
    }
  }
  return prompt;
}

ChatPrompt RenderMistral(const ChatFormat& format, const Alternating& chat) {
  const bool system_is_first = format.system_placement == SystemPlacement::kFirstUserTurn;
  const size_t system_turn = system_is_first ? 0 : chat.turns.size() - 1;
  ChatPrompt prompt;
  for (size_t i = 0; i < chat.turns.size(); ++i) {
    const std::string& content = chat.turns[i].content;
    if (chat.turns[i].role == "user") {
      prompt.Literal(format.user_open);
      if (chat.system != nullptr && i == system_turn) {
        prompt.Content(*chat.system).Literal("\n\n");
      }
      prompt.Content(content).Literal(format.user_close);
    } else {
      const absl::string_view answer = format.trims_assistant ? PythonStrip(content) : content;
      prompt.Literal(format.assistant_open).Content(answer);
      prompt.Literal(format.eos_text).Literal(format.assistant_close);
    }
  }
  return prompt;
}

ChatPrompt RenderGemma(const Alternating& chat) {
  ChatPrompt prompt;
  for (size_t i = 0; i < chat.turns.size(); ++i) {
    const bool is_answer = chat.turns[i].role == "assistant";
    prompt.Literal(is_answer ? "<start_of_turn>model\n" : "<start_of_turn>user\n");
    if (i == 0 && chat.system != nullptr) prompt.Content(*chat.system).Literal("\n\n");
    prompt.Content(PythonStrip(chat.turns[i].content)).Literal("<end_of_turn>\n");
  }
  return prompt.Literal("<start_of_turn>model\n");
}

}  // namespace

absl::string_view ChatFamilyName(ChatFamily family) {
  switch (family) {
    case ChatFamily::kChatMl:
      return "chatml";
    case ChatFamily::kLlama2:
      return "llama2";
    case ChatFamily::kLlama3:
      return "llama3";
    case ChatFamily::kMistral:
      return "mistral";
    case ChatFamily::kZephyr:
      return "zephyr";
    case ChatFamily::kGemma:
      return "gemma";
  }
  return "unknown";
}

absl::StatusOr<ChatPrompt> RenderChatPrompt(const ChatFormat& format,
                                            const std::vector<ChatTurn>& turns) {
  TESSERA_RETURN_IF_ERROR(CheckRoles(turns));
  switch (format.family) {
    case ChatFamily::kChatMl:
      return RenderChatMl(format, turns);
    case ChatFamily::kLlama3:
      return RenderLlama3(format, turns);
    case ChatFamily::kZephyr:
      return RenderZephyr(format, turns);
    default:
      break;
  }
  TESSERA_ASSIGN_OR_RETURN(const Alternating chat, SplitAlternating(format, turns));
  switch (format.family) {
    case ChatFamily::kLlama2:
      return RenderLlama2(format, chat);
    case ChatFamily::kMistral:
      return RenderMistral(format, chat);
    default:
      return RenderGemma(chat);
  }
}

absl::StatusOr<std::string> RenderChat(const ChatFormat& format,
                                       const std::vector<ChatTurn>& turns) {
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt prompt, RenderChatPrompt(format, turns));
  return prompt.text();
}

}  // namespace tessera::coordinator
