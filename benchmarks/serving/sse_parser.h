// Server-sent events from a byte stream that may be cut anywhere (WHATWG HTML, section 9.2).
//
//   SseParser parser;
//   status = parser.Feed(bytes, [&](absl::string_view data) { ... });   // "[DONE]" is data too
#ifndef TESSERA_BENCHMARKS_SERVING_SSE_PARSER_H_
#define TESSERA_BENCHMARKS_SERVING_SSE_PARSER_H_

#include <cstddef>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tessera::benchmarks {

class SseParser {
 public:
  // A server that never ends its line or event must not fill our memory.
  static constexpr size_t kMaxEventBytes = size_t{8} << 20;

  // Calls `event` with the data of every event that `bytes` completes. Lines may end in \n, \r\n or
  // \r; several data lines are joined with \n; comments and other fields are skipped.
  // RESOURCE_EXHAUSTED when an event passes kMaxEventBytes; the parser is useless afterwards.
  absl::Status Feed(absl::string_view bytes, absl::FunctionRef<void(absl::string_view)> event);

  // An event has begun that no empty line has ended.
  bool inside_event() const { return has_data_ || !line_.empty(); }

 private:
  void EndLine(absl::FunctionRef<void(absl::string_view)> event);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;   // a \n now belongs to the line end already seen
  bool first_line_ = true;  // may begin with a byte order mark
};

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SSE_PARSER_H_
