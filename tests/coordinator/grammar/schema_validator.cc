#include "tests/coordinator/grammar/schema_validator.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>

namespace tessera::coordinator {
namespace {

using nlohmann::json;

bool IsOfType(const json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  return value.is_number_integer() ||
         (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
}

size_t LengthOf(const std::string& utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

bool TypeHolds(const json& value, const json& schema) {
  if (!schema.contains("type")) return true;
  const json& type = schema["type"];
  if (type.is_string()) return IsOfType(value, type);
  return std::any_of(type.begin(), type.end(),
                     [&](const json& one) { return IsOfType(value, one); });
}

bool ValuesHold(const json& value, const json& schema) {
  if (schema.contains("const") && value != schema["const"]) return false;
  if (!schema.contains("enum")) return true;
  const json& values = schema["enum"];
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool CombinationsHold(const json& value, const json& schema, const json& root) {
  const auto valid = [&](const json& one) { return IsValid(value, one, root); };
  if (schema.contains("$ref")) {
    const std::string ref = schema["$ref"];
    if (!valid(root.at(json::json_pointer(ref.substr(1))))) return false;
  }
  if (schema.contains("allOf") &&
      !std::all_of(schema["allOf"].begin(), schema["allOf"].end(), valid)) {
    return false;
  }
  for (const char* key : {"anyOf", "oneOf"}) {
    if (!schema.contains(key)) continue;
    if (!std::any_of(schema[key].begin(), schema[key].end(), valid)) return false;
  }
  return true;
}

bool NumberHolds(const json& value, const json& schema) {
  if (!value.is_number()) return true;
  if (schema.contains("minimum") && value < schema["minimum"]) return false;
  if (schema.contains("maximum") && value > schema["maximum"]) return false;
  if (schema.contains("exclusiveMinimum") && value <= schema["exclusiveMinimum"]) return false;
  if (schema.contains("exclusiveMaximum") && value >= schema["exclusiveMaximum"]) return false;
  return true;
}

bool StringHolds(const json& value, const json& schema) {
  if (!value.is_string()) return true;
  const auto& text = value.get_ref<const std::string&>();
  if (schema.contains("minLength") && LengthOf(text) < schema["minLength"]) return false;
  if (schema.contains("maxLength") && LengthOf(text) > schema["maxLength"]) return false;
  if (!schema.contains("pattern")) return true;
  return std::regex_search(text, std::regex(schema["pattern"].get<std::string>()));
}

bool ArrayHolds(const json& value, const json& schema, const json& root) {
  if (!value.is_array()) return true;
  if (schema.contains("minItems") && value.size() < schema["minItems"]) return false;
  if (schema.contains("maxItems") && value.size() > schema["maxItems"]) return false;
  const json prefix = schema.value("prefixItems", json::array());
  for (size_t i = 0; i < value.size(); ++i) {
    if (i < prefix.size() && !IsValid(value[i], prefix[i], root)) return false;
    if (i < prefix.size() || !schema.contains("items")) continue;
    if (!IsValid(value[i], schema["items"], root)) return false;
  }
  return true;
}

bool ObjectHolds(const json& value, const json& schema, const json& root) {
  if (!value.is_object()) return true;
  for (const json& name : schema.value("required", json::array())) {
    if (!value.contains(name.get<std::string>())) return false;
  }
  const json properties = schema.value("properties", json::object());
  for (const auto& [name, member] : value.items()) {
    if (properties.contains(name)) {
      if (!IsValid(member, properties[name], root)) return false;
    } else if (schema.contains("additionalProperties")) {
      if (!IsValid(member, schema["additionalProperties"], root)) return false;
    }
  }
  return true;
}

}  // namespace

bool IsValid(const json& value, const json& schema, const json& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  return TypeHolds(value, schema) && ValuesHold(value, schema) &&
         CombinationsHold(value, schema, root) && NumberHolds(value, schema) &&
         StringHolds(value, schema) && ArrayHolds(value, schema, root) &&
         ObjectHolds(value, schema, root);
}

}  // namespace tessera::coordinator
