// In the place of proto/wire/status_builders.cc and proto/base/annotate.cc, without google.rpc's details: nobody reads them
// here.
#include "proto/wire/status_builders.h"

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"

namespace tessera::wire {

absl::Status FieldError(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", what));
}

}  // namespace tessera::wire

namespace tessera {

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, ": ", status.message()));
}

}  // namespace tessera
