// Asks a rank's grpc.health.v1.Health/Check, without the service's .proto: its messages are one
// field each.
#ifndef TESSERA_TESTS_WORKER_GROUP_HEALTH_CLIENT_H_
#define TESSERA_TESTS_WORKER_GROUP_HEALTH_CLIENT_H_

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"

namespace tessera::worker {

// "SERVING", "NOT_SERVING", or the call's error.
inline std::string CheckHealth(int port) {
  auto channel = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                                     grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  context.set_wait_for_ready(true);
  grpc::CompletionQueue queue;
  const grpc::Slice nothing;
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                    grpc::ByteBuffer(&nothing, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, nullptr);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  if (!status.ok()) return status.error_message();
  grpc::Slice bytes;
  if (!reply.DumpToSingleSlice(&bytes).ok() || bytes.size() != 2 || bytes.begin()[0] != 0x08) {
    return "an answer that is no HealthCheckResponse";
  }
  const int value = bytes.begin()[1];  // ServingStatus
  return value == 1 ? "SERVING" : value == 2 ? "NOT_SERVING" : absl::StrCat("status ", value);
}

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_GROUP_HEALTH_CLIENT_H_
