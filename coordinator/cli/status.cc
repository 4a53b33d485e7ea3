// tessera status: the cluster map, live.
#include <unistd.h>

#include <google/protobuf/util/json_util.h>
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/cluster_map.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/interrupts.h"
#include "coordinator/cli/terminal.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kPollEvery = absl::Milliseconds(100);

using flags::Declare;

struct StatusFlags {
  ServerAddress server;
  absl::Duration wait = absl::ZeroDuration();
  bool has_chat_format = false;
  bool json = false;
};

using ClusterStatus = v1::GetClusterStatusResponse;

bool Serves(const ClusterStatus& status) {
  for (const v1::GroupStatus& group : status.groups()) {
    if (group.state() == v1::GroupStatus::STATE_SERVING) return true;
  }
  return false;
}

void PrintGroup(const v1::GroupStatus& group) {
  const Style style = StyleFor(STDOUT_FILENO);
  const std::string state = StateName(group.state());
  const bool serving = group.state() == v1::GroupStatus::STATE_SERVING;
  const bool failed = group.state() == v1::GroupStatus::STATE_FAILED;
  if (!group.group_id().empty()) std::cout << style.Bold(group.group_id()) << "  ";
  std::cout << style.Bold(group.model().empty() ? "(no model yet)" : group.model()) << "  "
            << (serving  ? style.Green(state)
                : failed ? style.Red(state)
                         : style.Yellow(state))
            << absl::StrFormat("  tensor parallel %d x pipeline parallel %d",
                               group.tensor_parallel_size(), group.pipeline_parallel_size())
            << "\n";
  if (!group.error().empty()) std::cout << style.Red(group.error()) << "\n";
  if (group.ranks_size() == 0) return;
  std::cout << "\n" << FormatShards(group) << "\n" << FormatProcesses(group) << "\n";
  if (!serving) return;
  if (const std::string times = FormatStepTimes(group); !times.empty()) std::cout << times << "\n";
  const int used = group.kv_blocks_total() - group.kv_blocks_free();
  std::cout << absl::StrFormat("KV cache: %d of %d blocks in use\n", used, group.kv_blocks_total());
}

// "group0.1, 12 s ago: mpirun noticed ...; 3 requests went on with others, after 0.42 s"
void PrintLost(const v1::LostGroup& lost) {
  const absl::Duration ago = absl::Now() - absl::FromUnixMillis(lost.lost_unix_millis());
  std::cout << "lost " << lost.group_id() << ", " << absl::ToInt64Seconds(ago)
            << " s ago: " << lost.error();
  if (lost.requests_moved() > 0) {
    std::cout << absl::StrFormat("; %d %s on with others", lost.requests_moved(),
                                 lost.requests_moved() == 1 ? "request went" : "requests went");
  }
  if (lost.resume_micros() > 0) {
    std::cout << absl::StrFormat(", all of them after %.2f s",
                                 static_cast<double>(lost.resume_micros()) / 1e6);
  }
  std::cout << "\n";
}

absl::Status Print(const ClusterStatus& status, bool json) {
  if (json) {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = true;
    options.always_print_primitive_fields = true;
    options.preserve_proto_field_names = true;
    std::string text;
    if (!google::protobuf::util::MessageToJsonString(status, &text, options).ok()) {
      return absl::InternalError("cannot write the status as JSON");
    }
    std::cout << text;
    return absl::OkStatus();
  }
  for (const v1::GroupStatus& group : status.groups()) PrintGroup(group);
  if (status.groups_size() == 0) std::cout << "no worker group has joined\n";
  for (const v1::LostGroup& lost : status.lost_groups()) PrintLost(lost);
  std::cout << absl::StrFormat("requests: %d running, %d waiting", status.requests_running(),
                               status.requests_waiting());
  if (status.requests_stranded() > 0) {
    std::cout << absl::StrFormat(", %d waiting for a group", status.requests_stranded());
  }
  std::cout << "\n";
  return absl::OkStatus();
}

// The status as soon as a group serves, or whatever it is when the time is over.
absl::StatusOr<ClusterStatus> Poll(Client& client, absl::Duration wait) {
  Interrupts interrupts;
  const absl::Time deadline = absl::Now() + wait;
  for (;;) {
    absl::StatusOr<ClusterStatus> status = client.GetClusterStatus();
    if ((status.ok() && Serves(*status)) || absl::Now() >= deadline) return status;
    if (interrupts.Wait(kPollEvery)) return absl::CancelledError("interrupted");
  }
}

absl::StatusOr<bool> CanChat(Client& client) {
  TESSERA_ASSIGN_OR_RETURN(const v1::ListModelsResponse models, client.ListModels());
  return models.models_size() > 0 && !models.models(0).chat_format().empty();
}

absl::StatusOr<int> RunStatus(const StatusFlags& flags) {
  const auto client = Client::Connect(flags.server);
  TESSERA_ASSIGN_OR_RETURN(const ClusterStatus status,
                           Poll(*client, flags.wait));
  TESSERA_RETURN_IF_ERROR(Print(status, flags.json));
  if (!Serves(status)) return 1;
  if (!flags.has_chat_format) return 0;
  TESSERA_ASSIGN_OR_RETURN(const bool can_chat, CanChat(*client));
  return can_chat ? 0 : 1;
}

}  // namespace

Command AddStatus(CLI::App& parent) {
  auto flags = std::make_shared<StatusFlags>();
  CLI::App* app = parent.add_subcommand(
      "status", "Show the cluster map; exit status 0 only while a group serves");
  AddServerFlags(*app, flags->server);
  flags::DeclareSeconds(*app,
                        {.name = "--wait",
                         .help = "How long to wait for a group that serves",
                         .range = flags::kWaits},
                        flags->wait);
  Declare(*app,
          {.name = "--has-chat-format",
           .help = "Exit status 0 only if the model served can chat, too"},
          flags->has_chat_format);
  Declare(*app, {.name = "--json", .help = "Print the status as JSON"}, flags->json);
  app->footer(
      "Examples:\n"
      "  tessera status\n"
      "  tessera status --server 127.0.0.1:50051 --wait 60 --json");
  return {app, [flags] {
            const absl::StatusOr<int> code = RunStatus(*flags);
            return code.ok() ? *code : ExitWith(code.status());
          }};
}

}  // namespace tessera::coordinator
