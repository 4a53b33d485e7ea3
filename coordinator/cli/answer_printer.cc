#include "coordinator/cli/answer_printer.h"

#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "coordinator/cli/interrupts.h"
#include "coordinator/cli/terminal.h"

namespace tessera::coordinator {
namespace {

using nlohmann::json;

json LogprobJson(const v1::TokenLogprob& entry) {
  return {{"token_id", entry.token_id()}, {"token", entry.token()}, {"logprob", entry.logprob()}};
}

json LogprobsJson(const v1::GenerateResponse& all) {
  json list = json::array();
  for (const v1::TokenLogprobs& token : all.logprobs()) {
    json entry = LogprobJson(token.chosen());
    entry["top"] = json::array();
    for (const v1::TokenLogprob& other : token.top()) entry["top"].push_back(LogprobJson(other));
    list.push_back(std::move(entry));
  }
  return list;
}

std::string LogprobLine(const v1::TokenLogprobs& token) {
  std::string line =
      absl::StrFormat("%8.4f  %s", token.chosen().logprob(), json(token.chosen().token()).dump());
  for (const v1::TokenLogprob& other : token.top()) {
    absl::StrAppendFormat(&line, "  %s %.4f", json(other.token()).dump(), other.logprob());
  }
  return line;
}

}  // namespace

AnswerPrinter::AnswerPrinter(bool json) : json_(json), start_(absl::Now()) {}

void AnswerPrinter::Add(const v1::GenerateResponse& chunk) {
  last_ = absl::Now();
  if (chunk.token_ids_size() > 0 && first_ == absl::InfiniteFuture()) {
    first_ = last_;
    first_tokens_ = chunk.token_ids_size();
  }
  if (!json_) std::cout << chunk.text() << std::flush;
  std::string text = std::move(*all_.mutable_text());
  text += chunk.text();
  all_.MergeFrom(chunk);
  all_.set_text(std::move(text));
}

void AnswerPrinter::End(const absl::Status& status) {
  if (json_) {
    if (status.ok()) std::cout << Json() << std::endl;
    return;
  }
  if (!all_.text().empty() && all_.text().back() != '\n') std::cout << std::endl;
  if (!status.ok()) return;
  for (const v1::TokenLogprobs& token : all_.logprobs()) std::cerr << LogprobLine(token) << "\n";
  std::cerr << StyleFor(STDERR_FILENO).Dim(Statistics()) << std::endl;
}

double AnswerPrinter::TtftMillis() const {
  return first_ == absl::InfiniteFuture() ? 0 : absl::ToDoubleMilliseconds(first_ - start_);
}

// Of decoding: the first message's tokens came with the prompt's own time.
double AnswerPrinter::TokensPerSecond() const {
  const double seconds = absl::ToDoubleSeconds(last_ - first_);
  const int decoded = all_.token_ids_size() - first_tokens_;
  return decoded > 0 && seconds > 0 ? decoded / seconds : 0;
}

std::string AnswerPrinter::Statistics() const {
  return absl::StrFormat("prompt %d tokens, answer %d tokens (%s), TTFT %.0f ms, %.1f tokens/s",
                         all_.usage().prompt_tokens(), all_.usage().completion_tokens(),
                         all_.finish_reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop", TtftMillis(),
                         TokensPerSecond());
}

std::string AnswerPrinter::Json() const {
  json object;
  object["request_id"] = all_.request_id();
  object["text"] = all_.text();
  object["token_ids"] = std::vector<int>(all_.token_ids().begin(), all_.token_ids().end());
  object["finish_reason"] = all_.finish_reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop";
  object["usage"] = {{"prompt_tokens", all_.usage().prompt_tokens()},
                     {"completion_tokens", all_.usage().completion_tokens()}};
  object["ttft_ms"] = TtftMillis();
  object["tokens_per_second"] = TokensPerSecond();
  if (all_.logprobs_size() > 0) object["logprobs"] = LogprobsJson(all_);
  return object.dump(2);
}

absl::StatusOr<std::string> PrintAnswer(Client& client, bool json, const StreamCall& call) {
  AnswerPrinter printer(json);
  Interrupts interrupts;
  const InterruptCallback on_ctrl_c(interrupts, [&client] { client.Cancel(); });
  const absl::Status status =
      call([&printer](const v1::GenerateResponse& chunk) { printer.Add(chunk); });
  printer.End(status);
  if (!status.ok()) return status;
  return printer.text();
}

}  // namespace tessera::coordinator
