// A group's status as tables: what every rank owns, and which process it is.
//
//   std::cout << FormatShards(group) << "\n" << FormatProcesses(group);
#ifndef TESSERA_COORDINATOR_CLI_CLUSTER_MAP_H_
#define TESSERA_COORDINATOR_CLI_CLUSTER_MAP_H_

#include <cstdint>
#include <string>

#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

std::string FormatShards(const v1::GroupStatus& group);

// Host, pid, health port, device; MB loaded, and the peak memory that loading took against the
// shard's size.
std::string FormatProcesses(const v1::GroupStatus& group);

// Milliseconds per step that each rank computed, waited for other ranks and moved bytes, and its idle
// share; empty while no rank has run a step. A rank that computes much longer than the others of its
// stage is named below.
std::string FormatStepTimes(const v1::GroupStatus& group);

std::string StateName(v1::GroupStatus::State state);  // "serving"

struct LoadProgress {
  int64_t bytes_loaded = 0;
  int64_t bytes_total = 0;
};
LoadProgress ProgressOf(const v1::GroupStatus& group);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_CLUSTER_MAP_H_
