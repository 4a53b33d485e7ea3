#include "coordinator/openai/answer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

using TokenLogprobsList = std::vector<v1::TokenLogprobs>;

int64_t Characters(absl::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

void WriteFinishReason(JsonWriter& w, v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP: return w.String("stop");
    case v1::FINISH_REASON_LENGTH: return w.String("length");
    default: return w.Null();
  }
}

// A part of a character has no text of its own: its token says U+FFFD, and its bytes are unknown.
void WriteBytes(JsonWriter& w, const std::string& token) {
  w.Key("bytes");
  if (absl::StrContains(token, "\xEF\xBF\xBD")) return w.Null();
  w.Array([&](JsonWriter& bytes) {
    for (const char c : token) bytes.Int(static_cast<unsigned char>(c));
  });
}

void WriteChatToken(JsonWriter& w, const v1::TokenLogprob& token, const v1::TokenLogprobs* whole) {
  w.Object([&](JsonWriter& one) {
    one.Key("token").String(token.token());
    one.Key("logprob").Float(token.logprob());
    WriteBytes(one, token.token());
    if (whole == nullptr) return;
    one.Key("top_logprobs").Array([&](JsonWriter& list) {
      for (const v1::TokenLogprob& top : whole->top()) WriteChatToken(list, top, nullptr);
    });
  });
}

void WriteChatLogprobs(JsonWriter& w, const TokenLogprobsList& logprobs) {
  w.Object([&](JsonWriter& object) {
    object.Key("content").Array([&](JsonWriter& list) {
      for (const v1::TokenLogprobs& token : logprobs) WriteChatToken(list, token.chosen(), &token);
    });
    object.Key("refusal").Null();
  });
}

bool IsEmpty(const v1::TokenLogprobs& token) { return !token.has_chosen() && token.top().empty(); }

// {" Paris":-0.1,...}: the best ones, and the chosen one if it is not among them.
void WriteTopLogprobs(JsonWriter& w, const v1::TokenLogprobs& token) {
  w.Object([&](JsonWriter& object) {
    std::set<std::string> written;
    for (const v1::TokenLogprob& top : token.top()) {
      if (written.insert(top.token()).second) object.Key(top.token()).Float(top.logprob());
    }
    if (written.count(token.chosen().token()) == 0) {
      object.Key(token.chosen().token()).Float(token.chosen().logprob());
    }
  });
}

// vLLM's shape: null for the first token, then {"ID": {"logprob", "rank", "decoded_token"}}.
void WritePromptLogprobs(JsonWriter& w, const TokenLogprobsList& logprobs) {
  w.Array([&](JsonWriter& list) {
    for (size_t i = 0; i < logprobs.size(); ++i) {
      const v1::TokenLogprobs& token = logprobs[i];
      if (i == 0 || IsEmpty(token)) {
        list.Null();
        continue;
      }
      list.Object([&](JsonWriter& object) {
        const auto write = [&](const v1::TokenLogprob& one, int rank) {
          object.Key(absl::StrCat(one.token_id())).Object([&](JsonWriter& entry) {
            entry.Key("logprob").Float(one.logprob());
            entry.Key("rank");
            rank > 0 ? entry.Int(rank) : entry.Null();  // not among those asked for
            entry.Key("decoded_token").String(one.token());
          });
        };
        bool seen = false;
        for (int rank = 1; rank <= token.top_size(); ++rank) {
          const v1::TokenLogprob& top = token.top(rank - 1);
          seen = seen || top.token_id() == token.chosen().token_id();
          write(top, rank);
        }
        if (!seen) write(token.chosen(), 0);
      });
    }
  });
}

}  // namespace

OpenAiAnswer::OpenAiAnswer(AnswerStyle style)
    : style_(std::move(style)),
      choices_(static_cast<size_t>(std::max(1, style_.n)) * static_cast<size_t>(style_.prompts)),
      prompts_(static_cast<size_t>(style_.prompts)) {}

void OpenAiAnswer::SetPromptText(int prompt, std::string text) {
  prompts_[static_cast<size_t>(prompt)].text = std::move(text);
}

TokenLogprobsList OpenAiAnswer::TakeLogprobs(v1::GenerateResponse& chunk) const {
  TokenLogprobsList taken;
  if (!style_.logprobs || style_.drop_output) return taken;
  for (v1::TokenLogprobs& token : *chunk.mutable_logprobs()) taken.push_back(std::move(token));
  return taken;
}

// What is the same for both kinds of answers: counts, and what comes with the first chunk.
OpenAiAnswer::Choice& OpenAiAnswer::Begin(int prompt, int index, v1::GenerateResponse& chunk) {
  if (chunk.has_usage()) {
    prompt_tokens_ += chunk.usage().prompt_tokens();
    completion_tokens_ += style_.drop_output ? 0 : chunk.usage().completion_tokens();
    cached_tokens_ += chunk.usage().cached_tokens();
  }
  Prompt& source = prompts_[static_cast<size_t>(prompt)];
  for (v1::TokenLogprobs& token : *chunk.mutable_prompt_logprobs()) {
    source.logprobs.push_back(std::move(token));
  }
  // The first prompt token has no probability; its text is what the others leave of the prompt's.
  if (style_.echo && !chunk.prompt_logprobs().empty() && source.logprobs.front().chosen().token().empty()) {
    size_t others = 0;
    for (size_t i = 1; i < source.logprobs.size(); ++i) {
      others += source.logprobs[i].chosen().token().size();
    }
    if (others < source.text.size()) {
      source.logprobs.front().mutable_chosen()->set_token(
          source.text.substr(0, source.text.size() - others));
    }
  }
  if (style_.drop_output) chunk.clear_text();
  if (style_.drop_output && chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    chunk.set_finish_reason(v1::FINISH_REASON_LENGTH);
  }
  return choices_[static_cast<size_t>(index)];
}

void OpenAiAnswer::Stream(int prompt, v1::GenerateResponse chunk, std::string& out) {
  const int index = prompt * std::max(1, style_.n) + chunk.index();
  if (chunk.index() < 0 || static_cast<size_t>(index) >= choices_.size()) return;
  Choice& choice = Begin(prompt, index, chunk);
  const TokenLogprobsList logprobs = TakeLogprobs(chunk);
  const bool first = !std::exchange(choice.begun, true);
  if (first && style_.chat) {
    WriteEvent(index, {"", nullptr, v1::FINISH_REASON_UNSPECIFIED, true}, out);
  }
  if (first && style_.echo) {
    const Prompt& source = prompts_[static_cast<size_t>(prompt)];
    WriteEvent(index, {source.text, style_.logprobs ? &source.logprobs : nullptr,
                       v1::FINISH_REASON_UNSPECIFIED, false}, out);
  }
  const bool finished = chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED;
  const bool has_output = !style_.drop_output && (!chunk.text().empty() || !logprobs.empty() ||
                                                  (!chunk.token_ids().empty() && !finished));
  if (has_output) {
    WriteEvent(index, {chunk.text(), style_.logprobs ? &logprobs : nullptr,
                       v1::FINISH_REASON_UNSPECIFIED, false}, out);
  }
  if (finished) WriteEvent(index, {"", nullptr, chunk.finish_reason(), false}, out);
}

void OpenAiAnswer::WriteHead(JsonWriter& w, absl::string_view object) const {
  w.Key("id").String(style_.id);
  w.Key("object").String(object);
  w.Key("created").Int(style_.created);
  w.Key("model").String(style_.model);
}

void OpenAiAnswer::WriteEvent(int index, const Delta& delta, std::string& out) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  out.append("data: ");
  JsonWriter(out).Object([&](JsonWriter& w) {
    WriteHead(w, style_.chat ? "chat.completion.chunk" : "text_completion");
    w.Key("choices").Array([&](JsonWriter& choices) {
      choices.Object([&](JsonWriter& one) {
        one.Key("index").Int(index);
        if (!style_.chat) {
          one.Key("text").String(delta.text);
        } else {
          one.Key("delta").Object([&](JsonWriter& message) {
            if (delta.role) message.Key("role").String("assistant");
            const bool closing = delta.finish_reason != v1::FINISH_REASON_UNSPECIFIED;
            if (!closing) message.Key("content").String(delta.text);
          });
        }
        one.Key("logprobs");
        delta.logprobs != nullptr ? WriteLogprobs(one, *delta.logprobs, choice) : one.Null();
        one.Key("finish_reason");
        WriteFinishReason(one, delta.finish_reason);
      });
    });
    if (style_.include_usage) w.Key("usage").Null();
  });
  out.append("\n\n");
}

void OpenAiAnswer::EndStream(std::string& out) {
  if (style_.include_usage) {
    out.append("data: ");
    JsonWriter(out).Object([&](JsonWriter& w) {
      WriteHead(w, style_.chat ? "chat.completion.chunk" : "text_completion");
      w.Key("choices").Array([](JsonWriter&) {});
      WriteUsage(w);
    });
    out.append("\n\n");
  }
  out.append("data: [DONE]\n\n");
}

void OpenAiAnswer::WriteLogprobs(JsonWriter& w, const TokenLogprobsList& logprobs, Choice& choice) {
  if (style_.chat) {
    WriteChatLogprobs(w, logprobs);
  } else {
    WriteCompletionLogprobs(w, logprobs, choice);
  }
}

void OpenAiAnswer::WriteCompletionLogprobs(JsonWriter& w, const TokenLogprobsList& logprobs,
                                           Choice& choice) {
  w.Object([&](JsonWriter& object) {
    object.Key("tokens").Array([&](JsonWriter& list) {
      for (const auto& token : logprobs) list.String(token.chosen().token());
    });
    // Only a prompt's first token has no probability; it alone comes without alternatives as well.
    const auto known = [&](size_t i) {
      const bool prompt_start = style_.echo && choice.text_offset == 0 && i == 0;
      return !prompt_start && !IsEmpty(logprobs[i]);
    };
    object.Key("token_logprobs").Array([&](JsonWriter& list) {
      for (size_t i = 0; i < logprobs.size(); ++i) {
        known(i) ? list.Float(logprobs[i].chosen().logprob()) : list.Null();
      }
    });
    object.Key("top_logprobs").Array([&](JsonWriter& list) {
      for (size_t i = 0; i < logprobs.size(); ++i) {
        known(i) ? WriteTopLogprobs(list, logprobs[i]) : list.Null();
      }
    });
    object.Key("text_offset").Array([&](JsonWriter& list) {
      for (const auto& token : logprobs) {
        list.Int(choice.text_offset);
        choice.text_offset += Characters(token.chosen().token());
      }
    });
  });
}

void OpenAiAnswer::WriteUsage(JsonWriter& w) const {
  w.Key("usage").Object([&](JsonWriter& usage) {
    usage.Key("prompt_tokens").Int(prompt_tokens_);
    usage.Key("completion_tokens").Int(completion_tokens_);
    usage.Key("total_tokens").Int(prompt_tokens_ + completion_tokens_);
    usage.Key("prompt_tokens_details").Object([&](JsonWriter& details) {
      details.Key("cached_tokens").Int(cached_tokens_);
    });
  });
}

void OpenAiAnswer::Add(int prompt, v1::GenerateResponse chunk) {
  const int index = prompt * std::max(1, style_.n) + chunk.index();
  if (chunk.index() < 0 || static_cast<size_t>(index) >= choices_.size()) return;
  Choice& choice = Begin(prompt, index, chunk);
  choice.text.append(chunk.text());
  for (v1::TokenLogprobs& token : TakeLogprobs(chunk)) choice.logprobs.push_back(std::move(token));
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    choice.finish_reason = chunk.finish_reason();
  }
}

void OpenAiAnswer::WriteChoice(JsonWriter& w, int index) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  const Prompt& source = prompts_[static_cast<size_t>(index / std::max(1, style_.n))];
  TokenLogprobsList echoed;
  const TokenLogprobsList* logprobs = &choice.logprobs;
  if (style_.echo && style_.logprobs) {
    echoed = source.logprobs;
    echoed.insert(echoed.end(), choice.logprobs.begin(), choice.logprobs.end());
    logprobs = &echoed;
  }
  w.Object([&](JsonWriter& one) {
    one.Key("index").Int(index);
    if (style_.chat) {
      one.Key("message").Object([&](JsonWriter& message) {
        message.Key("role").String("assistant");
        message.Key("content").String(choice.text);
        message.Key("refusal").Null();
      });
    } else {
      one.Key("text").String(style_.echo ? absl::StrCat(source.text, choice.text) : choice.text);
    }
    one.Key("logprobs");
    style_.logprobs ? WriteLogprobs(one, *logprobs, choice) : one.Null();
    one.Key("finish_reason");
    WriteFinishReason(one, choice.finish_reason);
    if (style_.prompt_logprobs && !style_.chat) {
      one.Key("prompt_logprobs");
      WritePromptLogprobs(one, source.logprobs);
    }
  });
}

std::string OpenAiAnswer::Whole() {
  std::string out;
  JsonWriter(out).Object([&](JsonWriter& w) {
    WriteHead(w, style_.chat ? "chat.completion" : "text_completion");
    w.Key("choices").Array([&](JsonWriter& list) {
      for (int i = 0; i < static_cast<int>(choices_.size()); ++i) WriteChoice(list, i);
    });
    WriteUsage(w);
    if (style_.prompt_logprobs && style_.chat) {
      w.Key("prompt_logprobs");
      WritePromptLogprobs(w, prompts_.front().logprobs);
    }
    w.Key("system_fingerprint").Null();
  });
  return out;
}

}  // namespace tessera::coordinator
