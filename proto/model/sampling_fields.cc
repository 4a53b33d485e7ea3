#include "proto/model/sampling_fields.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/range.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::model {
namespace {

using google::protobuf::FieldDescriptor;

const FieldDescriptor* DescriptorOf(const SamplingField& field) {
  return v1::SamplingOptions::descriptor()->FindFieldByName(field.name);
}

const google::protobuf::Reflection& Reflected() {
  return *v1::SamplingOptions::GetReflection();
}

}  // namespace

std::string ValuesText(const SamplingField& field) {
  switch (field.kind) {
    case SamplingKind::kInt:
    case SamplingKind::kFloat:
      return RangeText(field.range);
    case SamplingKind::kTexts:
      return absl::StrCat("at most ", field.most, " of ", field.most_bytes, " bytes");
    case SamplingKind::kTokenIds:
      return absl::StrCat("at most ", field.most);
    case SamplingKind::kBias:
      return absl::StrCat("at most ", field.most, " ids; ", RangeText(field.range));
    case SamplingKind::kSeed:
    case SamplingKind::kBool:
    case SamplingKind::kStructured:
      break;
  }
  return "";
}

std::string DefaultText(const SamplingField& field) {
  return field.standard ? NumberText(*field.standard) : field.otherwise;
}

std::string WhyRefused(const SamplingField& field, double value) {
  return absl::StrCat("is ", NumberText(value), "; expected ", RangeText(field.range));
}

std::optional<double> NumberIn(const v1::SamplingOptions& options, const SamplingField& field) {
  const bool is_int = field.kind == SamplingKind::kInt;
  if (!is_int && field.kind != SamplingKind::kFloat) return std::nullopt;
  const FieldDescriptor* descriptor = DescriptorOf(field);
  if (!Reflected().HasField(options, descriptor)) return std::nullopt;
  if (is_int) return Reflected().GetInt32(options, descriptor);
  return Reflected().GetFloat(options, descriptor);
}

void SetInt(const SamplingField& field, int32_t value, v1::SamplingOptions* options) {
  Reflected().SetInt32(options, DescriptorOf(field), value);
}

void SetFloat(const SamplingField& field, float value, v1::SamplingOptions* options) {
  Reflected().SetFloat(options, DescriptorOf(field), value);
}

void SetBool(const SamplingField& field, bool value, v1::SamplingOptions* options) {
  Reflected().SetBool(options, DescriptorOf(field), value);
}

void SetSeed(const SamplingField& field, uint64_t value, v1::SamplingOptions* options) {
  Reflected().SetUInt64(options, DescriptorOf(field), value);
}

void AddText(const SamplingField& field, std::string value, v1::SamplingOptions* options) {
  Reflected().AddString(options, DescriptorOf(field), std::move(value));
}

void AddTokenId(const SamplingField& field, int32_t value, v1::SamplingOptions* options) {
  Reflected().AddInt32(options, DescriptorOf(field), value);
}

}  // namespace tessera::model
