// When the programs reached which point of their start, for benchmarks/startup: with
// TESSERA_STARTUP_TIMES set in the environment each point is a line on stderr,
//
//   startup 12345.678901 worker 0: MPI up        (seconds of CLOCK_MONOTONIC, one clock per host)
//
// and without it nothing. Threads: any.
//
//   NoteStartup("coordinator: doors open");
#ifndef TESSERA_PROTO_BASE_STARTUP_TIMES_H_
#define TESSERA_PROTO_BASE_STARTUP_TIMES_H_

#include "absl/strings/string_view.h"

namespace tessera {

void NoteStartup(absl::string_view point);

}  // namespace tessera

#endif  // TESSERA_PROTO_BASE_STARTUP_TIMES_H_
