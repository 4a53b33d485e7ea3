// JSON from a request → a value whose every string people wrote.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_JSON_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_JSON_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/jinja/value.h"

namespace tessera::coordinator {

// INVALID_ARGUMENT saying where, for what is no JSON or nests deeper than values may.
absl::StatusOr<JinjaValue> ParseJsonContent(absl::string_view json);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_JSON_H_
