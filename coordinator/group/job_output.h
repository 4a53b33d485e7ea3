// The output of a job as lines, and what it says about the job's end.
//
// Threads: used by one thread.
//
//   output.Append(bytes, on_line);
//   absl::Status how = output.Explain("mpirun", wait_status);
#ifndef TESSERA_COORDINATOR_GROUP_JOB_OUTPUT_H_
#define TESSERA_COORDINATOR_GROUP_JOB_OUTPUT_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/group/first_sentences.h"

namespace tessera::coordinator {

class JobOutput {
 public:
  using LineCallback = std::function<void(const std::string& line)>;

  // Calls back for every line completed by `bytes`, without its end. A line longer than 16 KB is
  // handed out in pieces.
  void Append(absl::string_view bytes, const LineCallback& on_line);
  // The last line, and sentence, if it has no end.
  void Flush(const LineCallback& on_line);

  // OK for exit status 0, else one line: how the program ended, and the output's best explanation
  // (a worker's own error, else mpirun's notice of a dead rank, else the first sentence that is no
  // warning, else the last line).
  absl::Status Explain(absl::string_view program, int wait_status) const;

 private:
  void TakeLine(const LineCallback& on_line);  // what has come of it, which is then empty
  void TakeSentence(const std::optional<std::string>& sentence);
  std::string Explanation() const;

  std::string partial_;
  FirstSentences sentences_;
  std::string worker_error_;    // first line that starts with "tessera-worker: "
  std::string mpirun_notice_;   // first sentence that starts with "mpirun noticed"
  std::string first_sentence_;  // no warning
  std::string last_line_;       // neither empty nor a ruler
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_JOB_OUTPUT_H_
