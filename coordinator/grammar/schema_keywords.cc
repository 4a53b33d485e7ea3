#include "coordinator/grammar/schema_keywords.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "coordinator/grammar/limits.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator::grammar {
namespace {

constexpr std::array kUnsupported = {
    "not",           "if",           "then",          "else",
    "contains",      "minContains",  "maxContains",   "multipleOf",
    "minProperties", "maxProperties", "propertyNames", "patternProperties",
    "dependencies",  "dependentRequired", "dependentSchemas", "additionalItems",
    "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"};

constexpr std::array kNarrowing = {
    "type",      "enum",      "const",      "anyOf",      "oneOf",    "allOf",   "$ref",
    "properties", "required", "additionalProperties", "items", "prefixItems", "minItems",
    "maxItems",  "minLength", "maxLength",  "pattern",    "format",   "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum"};

constexpr std::array kTypes = {"object", "array",  "string", "number",
                               "integer", "boolean", "null"};

bool IsType(const std::string& name) {
  return std::find(kTypes.begin(), kTypes.end(), name) != kTypes.end();
}

std::vector<std::string> ImpliedTypes(const Json& schema) {
  std::vector<std::string> types;
  if (HasAny(schema, {"properties", "required", "additionalProperties"})) {
    types.emplace_back("object");
  }
  if (HasAny(schema, {"items", "prefixItems", "minItems", "maxItems"})) types.emplace_back("array");
  if (HasAny(schema, {"minLength", "maxLength", "pattern", "format"})) {
    types.emplace_back("string");
  }
  if (HasAny(schema, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) {
    types.emplace_back("number");
  }
  return types;
}

bool IsWhole(const Json& value) {
  return value.is_number_integer() ||
         (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
}

const char* TypeName(const Json& value) {
  if (value.is_object()) return "object";
  if (value.is_array()) return "array";
  if (value.is_string()) return "string";
  if (value.is_boolean()) return "boolean";
  if (value.is_null()) return "null";
  return "number";
}

absl::StatusOr<Decimal> ReadNumber(const SchemaAt& at, const char* key, const Json& value) {
  const std::string place = Below(at.pointer, key);
  if (!value.is_number()) return SchemaError(place, "expected a number");
  auto decimal = Decimal::Parse(value.dump());
  if (!decimal.ok()) return SchemaError(place, decimal.status().message());
  return decimal;
}

}  // namespace

absl::Status CheckSupported(const SchemaAt& at) {
  for (const char* keyword : kUnsupported) {
    if (at.schema.contains(keyword)) {
      return SchemaError(at.pointer, absl::StrCat(keyword, " is not supported"));
    }
  }
  if (const Json* unique = Find(at.schema, "uniqueItems"); unique != nullptr && *unique != false) {
    return SchemaError(at.pointer, "uniqueItems is not supported");
  }
  return absl::OkStatus();
}

const Json* Find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

bool HasAny(const Json& object, std::initializer_list<const char*> keys) {
  return std::any_of(keys.begin(), keys.end(),
                     [&](const char* key) { return object.contains(key); });
}

bool IsNarrowingKeyword(absl::string_view key) {
  return std::find(kNarrowing.begin(), kNarrowing.end(), key) != kNarrowing.end();
}

bool IsNarrowing(const Json& schema) { return IsNarrowingBeside(schema, ""); }

bool IsNarrowingBeside(const Json& schema, absl::string_view key) {
  return std::any_of(kNarrowing.begin(), kNarrowing.end(), [&](const char* narrowing) {
    return key != narrowing && schema.contains(narrowing);
  });
}

absl::StatusOr<std::vector<std::string>> TypesOf(const SchemaAt& at) {
  const Json* type = Find(at.schema, "type");
  std::vector<std::string> types;
  if (type == nullptr) {
    types = ImpliedTypes(at.schema);
    if (types.empty()) types.assign(kTypes.begin(), kTypes.end());
  } else if (type->is_string()) {
    types.push_back(type->get<std::string>());
  } else {
    TESSERA_ASSIGN_OR_RETURN(types, ReadStrings(at, "type"));
  }
  for (const std::string& name : types) {
    if (!IsType(name)) {
      return SchemaError(Below(at.pointer, "type"), absl::StrCat("unknown type ", Quoted(name)));
    }
  }
  const bool has_number = std::find(types.begin(), types.end(), "number") != types.end();
  if (has_number) types.erase(std::remove(types.begin(), types.end(), "integer"), types.end());
  std::vector<std::string> distinct;
  for (const std::string& name : types) {
    if (std::find(distinct.begin(), distinct.end(), name) == distinct.end()) {
      distinct.push_back(name);
    }
  }
  return distinct;
}

bool HasType(const Json& value, const std::vector<std::string>& types) {
  return std::any_of(types.begin(), types.end(), [&](const std::string& type) {
    return type == TypeName(value) || (type == "integer" && value.is_number() && IsWhole(value));
  });
}

absl::StatusOr<std::optional<int64_t>> ReadCount(const SchemaAt& at, const char* key) {
  const Json* value = Find(at.schema, key);
  if (value == nullptr) return std::nullopt;
  const std::string place = Below(at.pointer, key);
  if (!value->is_number() || !IsWhole(*value) || value->get<double>() < 0) {
    return SchemaError(place, "expected a whole number that is not negative");
  }
  if (value->get<double>() > kMaxRepeatCount) {
    return SchemaError(place, absl::StrCat("is beyond ", kMaxRepeatCount));
  }
  return static_cast<int64_t>(value->get<double>());
}

absl::StatusOr<std::vector<std::string>> ReadStrings(const SchemaAt& at, const char* key) {
  const Json* value = Find(at.schema, key);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  const auto wrong = [&] { return SchemaError(Below(at.pointer, key), "expected strings"); };
  if (!value->is_array()) return wrong();
  for (const Json& item : *value) {
    if (!item.is_string()) return wrong();
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

absl::StatusOr<std::optional<Bound>> ReadBound(const SchemaAt& at, bool is_lower) {
  const char* const inclusive = is_lower ? "minimum" : "maximum";
  const char* const exclusive = is_lower ? "exclusiveMinimum" : "exclusiveMaximum";
  std::optional<Bound> bound;
  for (const char* key : {inclusive, exclusive}) {
    const Json* value = Find(at.schema, key);
    if (value == nullptr) continue;
    TESSERA_ASSIGN_OR_RETURN(Decimal decimal, ReadNumber(at, key, *value));
    const Bound read = {std::move(decimal), key == exclusive};
    if (!bound) {
      bound = read;
    } else {
      bound = is_lower ? HigherBound(*bound, read) : LowerBound(*bound, read);
    }
  }
  return bound;
}

}  // namespace tessera::coordinator::grammar
