// What a client hears whose request finds no place in the queue, wherever that is noticed.
#ifndef TESSERA_COORDINATOR_SCHEDULE_QUEUE_FULL_H_
#define TESSERA_COORDINATOR_SCHEDULE_QUEUE_FULL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {

// RESOURCE_EXHAUSTED with RetryInfo.
inline absl::Status QueueFullError(int64_t waiting, int64_t max_queue, absl::Duration retry_after) {
  return wire::OverloadedError(
      absl::StrCat("the queue is full: ", waiting, " requests wait, at most ", max_queue, " may"),
      retry_after);
}

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_QUEUE_FULL_H_
