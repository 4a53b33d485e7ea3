#include "coordinator/text/chat_format.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "coordinator/text/python_strip.h"
#include "coordinator/text/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/wire/status_macros.h"

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

std::string ChatMlTurn(absl::string_view role, absl::string_view content) {
  return absl::StrCat("<|im_start|>", role, "\n", content, "<|im_end|>\n");
}

// Qwen3: the answers before the user's last question lose their thoughts; one after it keeps them,
// in a uniform shape.
std::string WithThinking(const std::string& content, bool after_last_question, bool is_last) {
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
  if (!after_last_question || (!is_last && thought.empty())) return std::string(answer);
  return absl::StrCat("<think>\n", StripRight(StripLeft(thought, '\n'), '\n'), "\n</think>\n\n",
                      StripLeft(answer, '\n'));
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

std::string RenderChatMl(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  std::string prompt;
  if (turns[0].role != "system" && !format.default_system.empty()) {
    prompt = ChatMlTurn("system", format.default_system);
  }
  const size_t last_question = LastQuestion(turns);
  for (size_t i = 0; i < turns.size(); ++i) {
    if (format.drops_thinking && turns[i].role == "assistant") {
      prompt += ChatMlTurn(
          "assistant", WithThinking(turns[i].content, i > last_question, i + 1 == turns.size()));
    } else {
      prompt += ChatMlTurn(turns[i].role, turns[i].content);
    }
  }
  return prompt + "<|im_start|>assistant\n";
}

std::string Llama3Turn(absl::string_view role, absl::string_view content) {
  return absl::StrCat("<|start_header_id|>", role, "<|end_header_id|>\n\n", content, "<|eot_id|>");
}

std::string RenderLlama3(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  std::string prompt;
  Turns rest = turns;
  if (!format.system_preamble.empty()) {
    std::string system = format.system_preamble;
    if (turns[0].role == "system") {
      absl::StrAppend(&system, PythonStrip(turns[0].content));
      rest.remove_prefix(1);
    }
    prompt = Llama3Turn("system", system);
  }
  for (const ChatTurn& turn : rest) prompt += Llama3Turn(turn.role, PythonStrip(turn.content));
  return prompt + "<|start_header_id|>assistant<|end_header_id|>\n\n";
}

std::string RenderZephyr(const ChatFormat& format, const std::vector<ChatTurn>& turns) {
  std::string prompt;
  for (const ChatTurn& turn : turns) {
    absl::StrAppend(&prompt, "<|", turn.role, "|>\n", turn.content, format.eos_text, "\n");
  }
  return prompt + "<|assistant|>\n";
}

std::string RenderLlama2(const ChatFormat& format, const Alternating& chat) {
  std::string prompt;
  for (size_t i = 0; i < chat.turns.size(); ++i) {
    std::string content = chat.turns[i].content;
    if (i == 0 && chat.system != nullptr) {
      content = absl::StrCat("<<SYS>>\n", *chat.system, "\n<</SYS>>\n\n", content);
    }
    const absl::string_view stripped = PythonStrip(content);
    if (chat.turns[i].role == "user") {
      // The first BOS is the tokenizer's.
      absl::StrAppend(&prompt, i == 0 ? "" : format.bos_text, "[INST] ", stripped, " [/INST]");
    } else {
      absl::StrAppend(&prompt, " ", stripped, " ", format.eos_text);
    }
  }
  return prompt;
}

std::string RenderMistral(const ChatFormat& format, const Alternating& chat) {
  const bool system_is_first = format.system_placement == SystemPlacement::kFirstUserTurn;
  const size_t system_turn = system_is_first ? 0 : chat.turns.size() - 1;
  std::string prompt;
  for (size_t i = 0; i < chat.turns.size(); ++i) {
    const std::string& content = chat.turns[i].content;
    if (chat.turns[i].role == "user") {
      absl::StrAppend(&prompt, format.user_open);
      if (chat.system != nullptr && i == system_turn)
        absl::StrAppend(&prompt, *chat.system, "\n\n");
      absl::StrAppend(&prompt, content, format.user_close);
    } else {
      const absl::string_view answer = format.trims_assistant ? PythonStrip(content) : content;
      absl::StrAppend(&prompt, format.assistant_open, answer, format.eos_text,
                      format.assistant_close);
    }
  }
  return prompt;
}

std::string RenderGemma(const Alternating& chat) {
  std::string prompt;
  for (size_t i = 0; i < chat.turns.size(); ++i) {
    const absl::string_view role = chat.turns[i].role == "assistant" ? "model" : "user";
    absl::StrAppend(&prompt, "<start_of_turn>", role, "\n");
    if (i == 0 && chat.system != nullptr) absl::StrAppend(&prompt, *chat.system, "\n\n");
    absl::StrAppend(&prompt, PythonStrip(chat.turns[i].content), "<end_of_turn>\n");
  }
  return prompt + "<start_of_turn>model\n";
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

absl::StatusOr<std::string> RenderChat(const ChatFormat& format,
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

}  // namespace tessera::coordinator
