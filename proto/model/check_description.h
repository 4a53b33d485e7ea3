// What a group says of its model is a peer's word, and what a file says a stranger's: the numbers of an
// architecture within their bounds and fitting each other, and the table of tensors that they call
// for. The worker checks what it read by these, the coordinator what it was sent.
//
// Errors: INVALID_ARGUMENT naming the field ("architecture.layer_kinds[0].attention.num_heads is 0;
// expected 1 .. 65536") with a google.rpc.BadRequest detail; UNIMPLEMENTED naming the field for what
// the messages can say and nothing computes yet. Pure; threads: any.
//
//   TESSERA_RETURN_IF_ERROR(model::CheckDescription(hello.model()));
#ifndef TESSERA_PROTO_MODEL_CHECK_DESCRIPTION_H_
#define TESSERA_PROTO_MODEL_CHECK_DESCRIPTION_H_

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"

namespace tessera::model {

absl::Status CheckArchitecture(const v1::Architecture& arch);

// The architecture, and every tensor that it calls for: there once, with its shape, axis, layer, a known
// type and a size that this type can have.
absl::Status CheckDescription(const v1::ModelDescription& model);

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_CHECK_DESCRIPTION_H_
