// What every Communicator must do, written once: each case runs on all ranks of a world at the same
// time and expects with GoogleTest's macros. Inputs are small integers, so sums are exact and
// expected values need no tolerance.
#ifndef TESSERA_TESTS_WORKER_COMM_CONFORMANCE_H_
#define TESSERA_TESTS_WORKER_COMM_CONFORMANCE_H_

#include <ostream>
#include <vector>

#include "worker/comm/communicator.h"

namespace tessera::worker {

struct ConformanceCase {
  const char* name;
  void (*run)(Communicator& world);
};

const std::vector<ConformanceCase>& ConformanceCases();

inline void PrintTo(const ConformanceCase& c, std::ostream* out) { *out << c.name; }

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_COMM_CONFORMANCE_H_
