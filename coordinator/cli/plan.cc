// tessera plan: what every rank would own, without starting any.
#include <google/protobuf/util/json_util.h>
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "coordinator/cli/commands.h"
#include "coordinator/cli/describe.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/plan/format_plan.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "proto/base/status_macros.h"
#include "proto/flags/worker_flags.h"

namespace tessera::coordinator {
namespace {

using flags::Declare;
using flags::PassedOn;

struct PlanFlags {
  DescribeOptions describe;
  Layout layout;
  bool json = false;
};

absl::Status RunPlan(const PlanFlags& flags) {
  TESSERA_ASSIGN_OR_RETURN(const v1::ModelDescription model, DescribeModel(flags.describe));
  TESSERA_ASSIGN_OR_RETURN(const v1::ShardPlan plan, PlanShards(model, flags.layout));
  // What serve would refuse when the group joins is refused here already.
  if (model.tokenizer().kind() != v1::TOKENIZER_KIND_UNSPECIFIED) {
    TESSERA_RETURN_IF_ERROR(Tokenizer::Create(model.tokenizer()).status());
  }
  if (!flags.json) {
    std::cout << FormatPlan(model, plan);
    return absl::OkStatus();
  }
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(plan, &text, options).ok()) {
    return absl::InternalError("cannot write the plan as JSON");
  }
  std::cout << text;
  return absl::OkStatus();
}

}  // namespace

Command AddPlan(CLI::App& parent) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* app = parent.add_subcommand(
      "plan", "Show what every rank would own, and how much memory that takes");
  Declare(*app, flags::kModel, flags->describe.model)->required();
  Declare(*app, PassedOn(flags::kLoadFormat), flags->describe.load_format);
  Declare(*app, PassedOn(flags::kQuantization), flags->describe.quantization);
  AddLayoutFlags(*app, flags->layout);
  Declare(*app, {.name = "--json", .help = "Print the plan as JSON"}, flags->json);
  app->footer(
      "Examples:\n"
      "  tessera plan --model model.gguf -tp 4\n"
      "  tessera plan --model model.gguf -tp 2 -pp 2 --tensor-split 3,1");
  return {app, [flags] {
            const absl::Status status = RunPlan(*flags);
            return status.ok() ? 0 : ExitWith(status);
          }};
}

}  // namespace tessera::coordinator
