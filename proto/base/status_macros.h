// Returning early on a bad absl::Status. Debian's abseil has no status_macros.h.
//
//   TESSERA_RETURN_IF_ERROR(comm.AllReduceSum(x));
//   TESSERA_ASSIGN_OR_RETURN(auto plan, PlanShards(model, layout));
#ifndef TESSERA_PROTO_BASE_STATUS_MACROS_H_
#define TESSERA_PROTO_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define TESSERA_RETURN_IF_ERROR(expr)                              \
  do {                                                             \
    absl::Status tessera_status_ = (expr);                         \
    if (!tessera_status_.ok()) return tessera_status_;             \
  } while (false)

#define TESSERA_CONCAT_INNER_(a, b) a##b
#define TESSERA_CONCAT_(a, b) TESSERA_CONCAT_INNER_(a, b)
#define TESSERA_ASSIGN_OR_RETURN(lhs, expr) \
  TESSERA_ASSIGN_OR_RETURN_IMPL_(TESSERA_CONCAT_(tessera_statusor_, __LINE__), lhs, expr)
#define TESSERA_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                                   \
  if (!statusor.ok()) return std::move(statusor).status();  \
  lhs = *std::move(statusor)

#endif  // TESSERA_PROTO_BASE_STATUS_MACROS_H_
