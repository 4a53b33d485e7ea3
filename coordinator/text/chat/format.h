// Chat messages → prompt text, for the families recognized from a model's template.
//
//   TESSERA_ASSIGN_OR_RETURN(ChatFormat format, RecognizeChatFormat(model.chat_template()));
//   TESSERA_ASSIGN_OR_RETURN(ChatPrompt prompt, RenderChatPrompt(format, messages));
//   ids = tokenizer->Encode(prompt.text(), {.add_special = !prompt.text().starts_with(bos),
//                                           .parse_special = true, .plain = prompt.contents()});
#ifndef TESSERA_COORDINATOR_TEXT_CHAT_FORMAT_H_
#define TESSERA_COORDINATOR_TEXT_CHAT_FORMAT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/chat_prompt.h"

namespace tessera::coordinator {

enum class ChatFamily { kChatMl, kLlama2, kLlama3, kMistral, kZephyr, kGemma };

// Where a family without system turns puts a system message that opens the conversation.
enum class SystemPlacement { kOwnTurn, kFirstUserTurn, kLastUserTurn, kRefused };

// The family, and what templates of one family differ in. RecognizeChatFormat fills it.
struct ChatFormat {
  ChatFamily family = ChatFamily::kChatMl;
  // The system message the template puts in front when the conversation has none (SmolLM2, Qwen2.5
  // do); empty: none.
  std::string default_system = {};
  SystemPlacement system_placement = SystemPlacement::kOwnTurn;

  // The template's bos_token and eos_token where it writes them itself (Llama-2, Mistral, Zephyr).
  // A caller that knows the tokenizer's own sets them after recognition.
  std::string bos_text = "<s>";
  std::string eos_text = "</s>";

  // Mistral: its versions differ in their spaces.
  std::string user_open = "[INST] ", user_close = " [/INST]";
  std::string assistant_open = {}, assistant_close = {};  // the latter after EOS
  bool trims_assistant = false;

  // Llama-3.1 and later open every system turn with it ("Cutting Knowledge Date: ..."), and then
  // there always is one. Its date is the template's own constant.
  std::string system_preamble = {};

  // Qwen3: what an earlier answer thought is left out of the prompt.
  bool drops_thinking = false;
};

struct ChatTurn {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

absl::string_view ChatFamilyName(ChatFamily family);  // "chatml", ...

// UNIMPLEMENTED for a template of no known family; NOT_FOUND for an empty one.
absl::StatusOr<ChatFormat> RecognizeChatFormat(absl::string_view jinja_template);

// The prompt that makes the model answer as the assistant, exactly as the family's template with
// add_generation_prompt = true renders it (without BOS: the tokenizer adds it).
// INVALID_ARGUMENT naming messages[i].role for a role the family does not know or an order it
// forbids; messages must not be empty.
absl::StatusOr<ChatPrompt> RenderChatPrompt(const ChatFormat& format,
                                            const std::vector<ChatTurn>& turns);

// Its text alone.
absl::StatusOr<std::string> RenderChat(const ChatFormat& format,
                                       const std::vector<ChatTurn>& turns);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_CHAT_FORMAT_H_
