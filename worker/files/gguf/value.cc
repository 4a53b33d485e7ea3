#include "worker/files/gguf/value.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"

namespace tessera::worker {
namespace {

struct TypeRow {
  int bytes;
  const char* name;
};
constexpr std::array<TypeRow, kNumGgufTypes> kTypes = {{
    {1, "uint8"}, {1, "int8"}, {2, "uint16"}, {2, "int16"}, {4, "uint32"}, {4, "int32"},
    {4, "float32"}, {1, "bool"}, {0, "string"}, {0, "array"}, {8, "uint64"}, {8, "int64"},
    {8, "float64"},
}};

template <typename T>
T Load(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

// nullopt: not an integer type, or a uint64 beyond int64.
std::optional<int64_t> LoadInt(GgufType type, const uint8_t* data) {
  switch (type) {
    case GgufType::kUint8:
      return Load<uint8_t>(data);
    case GgufType::kInt8:
      return Load<int8_t>(data);
    case GgufType::kUint16:
      return Load<uint16_t>(data);
    case GgufType::kInt16:
      return Load<int16_t>(data);
    case GgufType::kUint32:
      return Load<uint32_t>(data);
    case GgufType::kInt32:
      return Load<int32_t>(data);
    case GgufType::kInt64:
      return Load<int64_t>(data);
    case GgufType::kUint64: {
      const auto value = Load<uint64_t>(data);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> LoadNumber(GgufType type, const uint8_t* data) {
  if (type == GgufType::kFloat32) return Load<float>(data);
  if (type == GgufType::kFloat64) return Load<double>(data);
  const auto integer = LoadInt(type, data);
  if (!integer) return std::nullopt;
  return static_cast<double>(*integer);
}

// The one integer that all elements of an array are.
std::optional<int64_t> CommonInt(const GgufValue& array) {
  const int bytes = GgufTypeBytes(array.element_type);
  if (array.count == 0 || bytes == 0) return std::nullopt;
  const auto first = LoadInt(array.element_type, array.data);
  for (uint64_t i = 1; i < array.count; ++i) {
    if (LoadInt(array.element_type, array.data + i * bytes) != first) return std::nullopt;
  }
  return first;
}

}  // namespace

int GgufTypeBytes(GgufType type) { return kTypes[static_cast<uint32_t>(type)].bytes; }
const char* GgufTypeName(GgufType type) { return kTypes[static_cast<uint32_t>(type)].name; }

const GgufValue* GgufMetadata::Find(absl::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

absl::Status GgufMetadata::WrongType(const std::string& key, absl::string_view expected) const {
  const GgufValue* value = Find(key);
  std::string found = "nothing";
  if (value != nullptr) {
    found = GgufTypeName(value->type);
    if (const auto number = LoadNumber(value->type, value->data)) {
      absl::StrAppend(&found, " ", *number);
    } else if (value->type == GgufType::kArray) {
      absl::StrAppend(&found, " of ", value->count, " ", GgufTypeName(value->element_type));
    }
  }
  return FileError(path_, absl::StrCat(key, ": expected ", expected, ", file has ", found));
}

absl::StatusOr<std::optional<int64_t>> GgufMetadata::OptionalInt(const std::string& key,
                                                                 int64_t min, int64_t max) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto number =
      value->type == GgufType::kArray ? CommonInt(*value) : LoadInt(value->type, value->data);
  if (!number || *number < min || *number > max) {
    return WrongType(key, absl::StrCat("a whole number from ", min, " to ", max));
  }
  return *number;
}

absl::StatusOr<std::optional<double>> GgufMetadata::OptionalNumber(const std::string& key,
                                                                   double min, double max) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = LoadNumber(value->type, value->data);
  if (!number || !(*number >= min && *number <= max)) {
    return WrongType(key, absl::StrCat("a number from ", min, " to ", max));
  }
  return *number;
}

absl::StatusOr<std::optional<bool>> GgufMetadata::OptionalBool(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kBool) return WrongType(key, "a bool");
  return *value->data != 0;
}

absl::StatusOr<std::optional<absl::string_view>> GgufMetadata::OptionalString(
    const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kString) return WrongType(key, "a string");
  return absl::string_view(reinterpret_cast<const char*>(value->data), value->bytes);
}

absl::StatusOr<int64_t> GgufMetadata::Int(const std::string& key, int64_t min, int64_t max) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalInt(key, min, max));
  if (!value) return WrongType(key, absl::StrCat("a whole number from ", min, " to ", max));
  return *value;
}

absl::StatusOr<int64_t> GgufMetadata::IntOr(const std::string& key, int64_t min, int64_t max,
                                            int64_t absent) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalInt(key, min, max));
  return value.value_or(absent);
}

absl::StatusOr<double> GgufMetadata::NumberOr(const std::string& key, double min, double max,
                                              double absent) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalNumber(key, min, max));
  return value.value_or(absent);
}

absl::StatusOr<std::vector<absl::string_view>> GgufMetadata::Strings(const std::string& key) const {
  std::vector<absl::string_view> strings;
  const GgufValue* value = Find(key);
  if (value == nullptr) return strings;
  if (value->type != GgufType::kArray || value->element_type != GgufType::kString) {
    return WrongType(key, "an array of strings");
  }
  strings.reserve(value->count);
  const uint8_t* at = value->data;
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto length = Load<uint64_t>(at);  // checked when the header was read
    strings.emplace_back(reinterpret_cast<const char*>(at + sizeof(uint64_t)), length);
    at += sizeof(uint64_t) + length;
  }
  return strings;
}

absl::StatusOr<std::vector<int64_t>> GgufMetadata::Ints(const std::string& key) const {
  std::vector<int64_t> numbers;
  const GgufValue* value = Find(key);
  if (value == nullptr) return numbers;
  const int bytes = GgufTypeBytes(value->element_type);
  if (value->type != GgufType::kArray || bytes == 0) return WrongType(key, "an array of integers");
  numbers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = LoadInt(value->element_type, value->data + i * bytes);
    if (!number) return WrongType(key, "an array of integers");
    numbers.push_back(*number);
  }
  return numbers;
}

absl::StatusOr<std::vector<float>> GgufMetadata::Floats(const std::string& key) const {
  std::vector<float> numbers;
  const GgufValue* value = Find(key);
  if (value == nullptr) return numbers;
  if (value->type != GgufType::kArray || value->element_type != GgufType::kFloat32) {
    return WrongType(key, "an array of float32");
  }
  numbers.resize(value->count);
  std::memcpy(numbers.data(), value->data, value->bytes);
  for (const float number : numbers) {
    if (!std::isfinite(number)) return WrongType(key, "finite numbers");
  }
  return numbers;
}

}  // namespace tessera::worker
