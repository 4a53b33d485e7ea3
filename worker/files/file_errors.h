// Wording of the errors about model files: always one line, always the file first.
//
//   return FileError(path, absl::StrCat(Printable(name), ": expected ", ShapeText(want), ...));
#ifndef TESSERA_WORKER_FILES_FILE_ERRORS_H_
#define TESSERA_WORKER_FILES_FILE_ERRORS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tessera::worker {

// INVALID_ARGUMENT "<path>: <what>".
absl::Status FileError(absl::string_view path, absl::string_view what);
// UNIMPLEMENTED "<path>: <what>".
absl::Status UnsupportedError(absl::string_view path, absl::string_view what);

// Text that came from a file, fit for a message: escaped to one line, cut when long.
std::string Printable(absl::string_view text);

// "(576, 192)".
std::string ShapeText(absl::Span<const int64_t> shape);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_FILE_ERRORS_H_
