// Metadata of a GGUF file → Architecture, for the families of families.h that GGUF has.
#ifndef TESSERA_WORKER_FILES_GGUF_ARCHITECTURE_H_
#define TESSERA_WORKER_FILES_GGUF_ARCHITECTURE_H_

#include "absl/status/statusor.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/gguf/reader.h"

namespace tessera::worker {

// The numbers as the file has them, not yet checked against each other (CheckArchitecture does).
// Rotary frequency factors are read from rope_freqs.weight. UNIMPLEMENTED for what is not.
absl::StatusOr<v1::Architecture> ReadGgufArchitecture(const GgufFile& gguf);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_ARCHITECTURE_H_
