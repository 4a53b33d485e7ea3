#include "proto/model/enum_names.h"

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace tessera::model {
namespace {

std::string Without(absl::string_view prefix, const std::string& name) {
  return std::string(absl::StripPrefix(name, prefix));
}

}  // namespace

std::string TypeName(int type) {
  return Without("DATA_TYPE_", v1::DataType_Name(static_cast<v1::DataType>(type)));
}

std::string AxisName(v1::ShardAxis axis) {
  return Without("SHARD_AXIS_", v1::ShardAxis_Name(axis));
}

}  // namespace tessera::model
