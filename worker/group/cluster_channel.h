// The connection to the coordinator's cluster port, as every user of it needs it.
#ifndef TESSERA_WORKER_GROUP_CLUSTER_CHANNEL_H_
#define TESSERA_WORKER_GROUP_CLUSTER_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "proto/wire/protocol.h"

namespace tessera::worker {

inline std::shared_ptr<grpc::Channel> MakeClusterChannel(const std::string& coordinator) {
  grpc::ChannelArguments args;
  args.SetMaxSendMessageSize(-1);  // a description carries a whole tokenizer
  args.SetMaxReceiveMessageSize(wire::kMaxCoordinatorMessageBytes);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 5000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // a cluster's own traffic never takes a web proxy
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // The coordinator may be a moment later than its workers.
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return grpc::CreateCustomChannel(coordinator, grpc::InsecureChannelCredentials(), args);
}

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_CLUSTER_CHANNEL_H_
