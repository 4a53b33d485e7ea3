// Weights made up from a config alone, for trying layouts and speed without a checkpoint.
//
// Every element is a pure function of the tensor's name and its index, so that any slice, on any
// rank, agrees with any other. Roughly as a freshly initialized model: matrices uniform with
// standard deviation 0.02 (those that end in a residual sum less, by depth), norms near 1.
#ifndef TESSERA_WORKER_FILES_DUMMY_WEIGHTS_H_
#define TESSERA_WORKER_FILES_DUMMY_WEIGHTS_H_

#include <cstdint>

#include "tessera/v1/model.pb.h"
#include "worker/files/slice_reader.h"

namespace tessera::worker {

// Writes the slice, which CheckSlice accepted, as float32 to `out`, rows contiguous.
void MakeDummySlice(const v1::TensorDescription& tensor, int num_layers, const Slice& slice,
                    uint8_t* out);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_DUMMY_WEIGHTS_H_
