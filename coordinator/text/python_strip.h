// Python's str.strip, which is also Jinja's trim, on UTF-8. Views into the argument.
#ifndef TESSERA_COORDINATOR_TEXT_PYTHON_STRIP_H_
#define TESSERA_COORDINATOR_TEXT_PYTHON_STRIP_H_

#include "absl/strings/string_view.h"

namespace tessera::coordinator {

// Without the white space at both ends (str.isspace: Unicode's, and U+001C..U+001F).
absl::string_view PythonStrip(absl::string_view text);

// Without the run of `c` at one end.
absl::string_view StripLeft(absl::string_view text, char c);
absl::string_view StripRight(absl::string_view text, char c);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_PYTHON_STRIP_H_
