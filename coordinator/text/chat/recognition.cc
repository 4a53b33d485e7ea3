// RecognizeChatFormat: which family a template belongs to, by the words it cannot do without, and
// what this one's wording decides within the family.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/chat/format.h"
#include "coordinator/text/jinja/literals.h"

namespace tessera::coordinator {
namespace {

using Tags = std::vector<JinjaTag>;

bool Has(absl::string_view text, absl::string_view word) { return absl::StrContains(text, word); }

// The first literal that contains `word`, in any kind of tag.
std::optional<std::string> LiteralWith(const Tags& tags, absl::string_view word) {
  for (const JinjaTag& tag : tags) {
    for (const JinjaPart& part : tag.parts) {
      if (part.is_literal && Has(part.text, word)) return part.text;
    }
  }
  return std::nullopt;
}

// X of {% set <name> = 'X' %}.
std::optional<std::string> LiteralSetTo(const Tags& tags, absl::string_view name) {
  for (const JinjaTag& tag : tags) {
    if (tag.kind != JinjaTag::Kind::kStatement || tag.parts.size() != 2) continue;
    std::string code = tag.parts[0].text;
    code.erase(std::remove_if(code.begin(), code.end(), absl::ascii_isspace), code.end());
    if (code == absl::StrCat("set", name, "=") && tag.parts[1].is_literal) return tag.parts[1].text;
  }
  return std::nullopt;
}

// What stands between the opening of a ChatML system turn and its end, both in one literal. (A
// conversation's own system message makes the literal end in between.)
std::string DefaultChatMlSystem(const Tags& tags) {
  constexpr absl::string_view kOpen = "<|im_start|>system\n", kClose = "<|im_end|>";
  for (const JinjaTag& tag : tags) {
    for (const JinjaPart& part : tag.parts) {
      const absl::string_view text = part.text;
      const size_t open = part.is_literal ? text.find(kOpen) : text.npos;
      if (open == text.npos) continue;
      const size_t begin = open + kOpen.size();
      const size_t end = text.find(kClose, begin);
      if (end != text.npos && end > begin) return part.text.substr(begin, end - begin);
    }
  }
  return LiteralSetTo(tags, "system_message").value_or("");
}

ChatFormat ChatMl(absl::string_view source, const Tags& tags) {
  ChatFormat format{.family = ChatFamily::kChatMl};
  format.default_system = DefaultChatMlSystem(tags);
  format.drops_thinking = Has(source, "</think>");
  return format;
}

ChatFormat Llama3(const Tags& tags) {
  ChatFormat format{.family = ChatFamily::kLlama3};
  const auto knowledge = LiteralWith(tags, "Cutting Knowledge Date");
  if (knowledge) {
    const std::string date = LiteralSetTo(tags, "date_string").value_or("26 Jul 2024");
    format.system_preamble = absl::StrCat(*knowledge, "Today Date: ", date, "\n\n");
  }
  return format;
}

// {{ " " + message["content"]|trim + eos_token }}: what stands around the content.
void ReadMistralAssistant(const Tags& tags, ChatFormat& format) {
  for (const JinjaTag& tag : tags) {
    if (tag.kind != JinjaTag::Kind::kOutput) continue;
    std::string code, before_content, after_eos;
    for (const JinjaPart& part : tag.parts) {
      if (!part.is_literal) {
        absl::StrAppend(&code, part.text);
      } else if (part.text == "content") {  // message['content']
        absl::StrAppend(&code, part.text);
      } else {
        (Has(code, "eos_token") ? after_eos : before_content) += part.text;
      }
    }
    if (!Has(code, "content") || !Has(code, "eos_token")) continue;
    format.assistant_open = before_content;
    format.assistant_close = after_eos;
    format.trims_assistant = Has(code, "trim") || Has(code, "strip");
    return;
  }
}

ChatFormat Mistral(absl::string_view source, const Tags& tags) {
  ChatFormat format{.family = ChatFamily::kMistral};
  format.user_open = LiteralWith(tags, "[INST]").value_or(format.user_open);
  format.user_close = LiteralWith(tags, "[/INST]").value_or(format.user_close);
  ReadMistralAssistant(tags, format);
  format.system_placement = SystemPlacement::kRefused;
  if (Has(source, "loop.first and system_message")) {
    format.system_placement = SystemPlacement::kFirstUserTurn;
  } else if (Has(source, "loop.last and system_message")) {
    format.system_placement = SystemPlacement::kLastUserTurn;
  }
  return format;
}

ChatFormat Gemma(absl::string_view source) {
  ChatFormat format{.family = ChatFamily::kGemma};
  format.system_placement = Has(source, "first_user_prefix") ? SystemPlacement::kFirstUserTurn
                                                             : SystemPlacement::kRefused;
  return format;
}

}  // namespace

absl::StatusOr<ChatFormat> RecognizeChatFormat(absl::string_view jinja_template) {
  if (absl::StripAsciiWhitespace(jinja_template).empty()) {
    return absl::NotFoundError("the model has no chat template");
  }
  const Tags tags = ScanJinja(jinja_template);
  const auto has = [&](absl::string_view word) { return Has(jinja_template, word); };
  // <|im_sep|> is Phi-4's, [SYSTEM_PROMPT] Mistral's from Small 3 on: relatives that differ.
  if (has("<|im_start|>") && !has("<|im_sep|>")) return ChatMl(jinja_template, tags);
  if (has("<|start_header_id|>")) return Llama3(tags);
  if (has("<start_of_turn>")) return Gemma(jinja_template);
  if (has("[INST]") && has("<<SYS>>")) {
    return ChatFormat{.family = ChatFamily::kLlama2,
                      .system_placement = SystemPlacement::kFirstUserTurn};
  }
  if (has("[INST]") && !has("[SYSTEM_PROMPT]")) return Mistral(jinja_template, tags);
  if (has("<|user|>") && has("<|assistant|>") && has("eos_token") && !has("<|end|>")) {
    return ChatFormat{.family = ChatFamily::kZephyr};
  }
  return absl::UnimplementedError(
      "the model's chat template is of no known family; expected ChatML, Llama-2, Llama-3, "
      "Mistral, Zephyr or Gemma");
}

}  // namespace tessera::coordinator
