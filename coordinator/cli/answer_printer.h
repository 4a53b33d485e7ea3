// A streamed answer as it arrives: text to stdout at once, statistics to stderr at the end; or all
// of it as one JSON object.
//
//   AnswerPrinter printer(json);
//   status = client->Generate(request, [&](const auto& chunk) { printer.Add(chunk); });
//   printer.End(status);
#ifndef TESSERA_COORDINATOR_CLI_ANSWER_PRINTER_H_
#define TESSERA_COORDINATOR_CLI_ANSWER_PRINTER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/cli/client.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class AnswerPrinter {
 public:
  // The clock of "time to first token" starts here.
  explicit AnswerPrinter(bool json);

  void Add(const v1::GenerateResponse& chunk);
  // Ends the line, then the statistics (or the JSON object). Nothing but the line's end when the
  // stream failed.
  void End(const absl::Status& status);

  const std::string& text() const { return all_.text(); }

 private:
  double TtftMillis() const;
  double TokensPerSecond() const;
  std::string Json() const;
  std::string Statistics() const;

  const bool json_;
  const absl::Time start_;
  absl::Time first_ = absl::InfiniteFuture();
  absl::Time last_ = absl::InfinitePast();
  int first_tokens_ = 0;      // of the first message
  v1::GenerateResponse all_;  // merged
};

using StreamCall = std::function<absl::Status(const Client::ChunkCallback&)>;

// Runs a stream to its end, printing it; Ctrl-C cancels it. The answer's text, or the error.
// CANCELLED after a Ctrl-C.
absl::StatusOr<std::string> PrintAnswer(Client& client, bool json, const StreamCall& call);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_ANSWER_PRINTER_H_
