#include "benchmarks/serving/sse_parser.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tessera::benchmarks {

absl::Status SseParser::Feed(absl::string_view bytes,
                             absl::FunctionRef<void(absl::string_view)> event) {
  if (after_cr_ && !bytes.empty()) {
    absl::ConsumePrefix(&bytes, "\n");
    after_cr_ = false;
  }
  while (!bytes.empty()) {
    const size_t end = bytes.find_first_of("\r\n");
    const absl::string_view part = bytes.substr(0, end);
    if (line_.size() + data_.size() + part.size() > kMaxEventBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a server-sent event of more than ", kMaxEventBytes, " bytes"));
    }
    line_.append(part.data(), part.size());
    if (end == absl::string_view::npos) break;
    const bool carriage_return = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    EndLine(event);
    if (carriage_return && bytes.empty()) after_cr_ = true;
    if (carriage_return) absl::ConsumePrefix(&bytes, "\n");
  }
  return absl::OkStatus();
}

void SseParser::EndLine(absl::FunctionRef<void(absl::string_view)> event) {
  absl::string_view line = line_;
  if (first_line_) absl::ConsumePrefix(&line, "\xEF\xBB\xBF");
  first_line_ = false;
  if (line.empty()) {
    if (has_data_) event(data_);
    data_.clear();
    has_data_ = false;
  } else if (absl::ConsumePrefix(&line, "data") && (line.empty() || line[0] == ':')) {
    absl::ConsumePrefix(&line, ":");
    absl::ConsumePrefix(&line, " ");
    if (has_data_) data_ += '\n';
    data_.append(line.data(), line.size());
    has_data_ = true;
  }
  line_.clear();
}

}  // namespace tessera::benchmarks
