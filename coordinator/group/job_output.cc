#include "coordinator/group/job_output.h"

#include <string.h>
#include <sys/wait.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kMaxLineBytes = 16 << 10;
constexpr absl::string_view kWorkerPrefix = "tessera-worker: ";
constexpr absl::string_view kNoticePrefix = "mpirun noticed";

// ssh's "Warning: Permanently added ...", Open MPI's "WARNING: ..." and "[host:123] Warning: ...",
// "bash: warning: setlocale ..."; and a worker's "note: ...".
bool OnlyWarns(absl::string_view sentence) {
  if (absl::StartsWith(sentence, "note: ")) return true;
  const std::string lower = absl::AsciiStrToLower(sentence);
  const size_t warning = lower.find("warning");
  if (warning == std::string::npos) return absl::StrContains(lower, "deprecated");
  const absl::string_view who = sentence.substr(0, warning);
  return who.empty() || absl::EndsWith(who, "] ") || absl::EndsWith(who, ": ");
}

}  // namespace

void JobOutput::Append(absl::string_view bytes, const LineCallback& on_line) {
  for (const char c : bytes) {
    if (c == '\n') {
      TakeLine(on_line);
      continue;
    }
    if (partial_.size() >= kMaxLineBytes) TakeLine(on_line);
    if (c != '\r') partial_.push_back(c);
  }
}

void JobOutput::Flush(const LineCallback& on_line) {
  if (!partial_.empty()) TakeLine(on_line);
  TakeSentence(sentences_.Flush());
}

void JobOutput::TakeLine(const LineCallback& on_line) {
  std::string line;
  line.swap(partial_);
  if (worker_error_.empty() && absl::StartsWith(line, kWorkerPrefix)) {
    worker_error_ = line.substr(kWorkerPrefix.size());
  }
  TakeSentence(sentences_.Add(line));
  if (line.find_first_not_of("- \t") != std::string::npos) last_line_ = line;
  if (on_line) on_line(line);
}

void JobOutput::TakeSentence(const std::optional<std::string>& sentence) {
  if (!sentence) return;
  if (mpirun_notice_.empty() && absl::StartsWith(*sentence, kNoticePrefix)) {
    mpirun_notice_ = *sentence;
  }
  if (first_sentence_.empty() && !OnlyWarns(*sentence)) first_sentence_ = *sentence;
}

std::string JobOutput::Explanation() const {
  if (!worker_error_.empty()) return worker_error_;
  if (!mpirun_notice_.empty()) return mpirun_notice_;
  if (!first_sentence_.empty()) return first_sentence_;
  return last_line_;
}

absl::Status JobOutput::Explain(absl::string_view program, int wait_status) const {
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return absl::OkStatus();
  std::string how = absl::StrCat(program, ": ");
  if (WIFSIGNALED(wait_status)) {
    absl::StrAppend(&how, "killed by signal ", WTERMSIG(wait_status), " (",
                    strsignal(WTERMSIG(wait_status)), ")");
  } else {
    absl::StrAppend(&how, "exit status ", WEXITSTATUS(wait_status));
  }
  const std::string explanation = Explanation();
  if (!explanation.empty()) absl::StrAppend(&how, ": ", explanation);
  return absl::AbortedError(how);
}

}  // namespace tessera::coordinator
