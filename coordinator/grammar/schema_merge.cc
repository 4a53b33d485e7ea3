#include "coordinator/grammar/schema_merge.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/schema_keywords.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator::grammar {
namespace {

int64_t CountValues(const Json& value) {
  int64_t count = 1;
  if (value.is_structured()) {
    for (const Json& child : value) count += CountValues(child);
  }
  return count;
}

// What comparing each part of one with each of the other costs, cheap beside copying.
int64_t PairsOf(const Json& a, const Json& b) {
  const auto parts = static_cast<int64_t>(a.size() + b.size());
  return parts * parts / 32;
}

Json BothOf(const Json& a, const Json& b) {
  if (a == b || b == true) return a;
  if (a == true) return b;
  Json both = Json::object();
  both["allOf"] = Json::array({a, b});
  return both;
}

bool Contains(const Json& array, const Json& value) {
  return std::find(array.begin(), array.end(), value) != array.end();
}

Json Common(const Json& a, const Json& b) {
  Json common = Json::array();
  for (const Json& value : a) {
    if (Contains(b, value)) common.push_back(value);
  }
  return common;
}

// "integer" is a part of "number".
Json CommonTypes(const Json& a, const Json& b) {
  const Json first = a.is_array() ? a : Json::array({a});
  const Json second = b.is_array() ? b : Json::array({b});
  Json common = Common(first, second);
  const auto add_integer = [&](const Json& from, const Json& other) {
    if (Contains(from, "integer") && Contains(other, "number") && !Contains(common, "integer")) {
      common.push_back("integer");
    }
  };
  add_integer(first, second);
  add_integer(second, first);
  return common;
}

const Json& PropertiesOf(const Json& schema) {
  static const Json none = Json::object();
  const Json* properties = Find(schema, "properties");
  return properties != nullptr && properties->is_object() ? *properties : none;
}

const Json& RestOf(const Json& schema) {
  static const Json anything = true;
  const Json* rest = Find(schema, "additionalProperties");
  return rest != nullptr ? *rest : anything;
}

// additionalProperties holds for what its own schema's properties do not name, so each side's
// applies to the names that only the other one has.
void MergeProperties(const Json& from, Json& into) {
  const Json into_rest = RestOf(into);
  const Json into_named = PropertiesOf(into);
  const Json& from_rest = RestOf(from);
  const Json& from_named = PropertiesOf(from);
  Json named = Json::object();
  for (const auto& [name, schema] : into_named.items()) {
    const Json* other = Find(from_named, name.c_str());
    named[name] = BothOf(schema, other != nullptr ? *other : from_rest);
  }
  for (const auto& [name, schema] : from_named.items()) {
    if (!into_named.contains(name)) named[name] = BothOf(into_rest, schema);
  }
  if (into.contains("properties") || from.contains("properties")) into["properties"] = named;
  if (into.contains("additionalProperties") || from.contains("additionalProperties")) {
    into["additionalProperties"] = BothOf(into_rest, from_rest);
  }
}

// The tighter of two numbers, by their digits.
absl::StatusOr<Json> Tighter(const Json& a, const Json& b, bool is_lower,
                             const std::string& pointer) {
  if (!a.is_number() || !b.is_number()) return SchemaError(pointer, "expected a number");
  const auto first = Decimal::Parse(a.dump());
  const auto second = Decimal::Parse(b.dump());
  if (!first.ok() || !second.ok()) return SchemaError(pointer, "is a number of too many digits");
  return Less(*first, *second) == is_lower ? b : a;
}

bool IsLower(const std::string& key) {
  return key == "minimum" || key == "exclusiveMinimum" || key == "minLength" || key == "minItems";
}

bool IsUpper(const std::string& key) {
  return key == "maximum" || key == "exclusiveMaximum" || key == "maxLength" || key == "maxItems";
}

bool IsHandledApart(const std::string& key) {
  return key == "properties" || key == "additionalProperties" || key == "$defs" ||
         key == "definitions";
}

}  // namespace

absl::Status SchemaMerger::Charge(int64_t values) {
  work_ += values;
  if (work_ <= kMaxSchemaWork) return absl::OkStatus();
  return absl::ResourceExhaustedError("becomes too large once its parts are put together");
}

absl::StatusOr<Json> SchemaMerger::Flatten(const Json& schema, const std::string& pointer) {
  TESSERA_RETURN_IF_ERROR(Charge(1));
  if (schema.is_boolean()) return schema;
  if (!schema.is_object()) return SchemaError(pointer, "expected a schema");
  TESSERA_RETURN_IF_ERROR(CheckSupported({schema, pointer}));
  const Json* ref = Find(schema, "$ref");
  const Json* all_of = Find(schema, "allOf");
  if (ref == nullptr && all_of == nullptr) {
    TESSERA_RETURN_IF_ERROR(Charge(CountValues(schema)));
    return schema;
  }
  if (++nesting_ > kMaxSchemaNesting) {
    return SchemaError(pointer, "$ref and allOf lead back to themselves");
  }
  TESSERA_RETURN_IF_ERROR(Charge(CountValues(schema)));
  Json rest = schema;
  rest.erase("$defs");
  rest.erase("definitions");
  rest.erase("$ref");
  rest.erase("allOf");
  if (ref != nullptr) {
    if (!ref->is_string()) return SchemaError(Below(pointer, "$ref"), "expected a string");
    TESSERA_ASSIGN_OR_RETURN(const Json* target,
                             document_.Resolve(ref->get<std::string>(), pointer));
    TESSERA_ASSIGN_OR_RETURN(rest, Merge(rest, *target, pointer));
  }
  if (all_of != nullptr) {
    if (!all_of->is_array()) return SchemaError(Below(pointer, "allOf"), "expected schemas");
    for (size_t i = 0; i < all_of->size(); ++i) {
      TESSERA_ASSIGN_OR_RETURN(rest,
                               Merge(rest, (*all_of)[i], Below(Below(pointer, "allOf"), i)));
    }
  }
  --nesting_;
  return rest;
}

absl::StatusOr<Json> SchemaMerger::Merge(const Json& a, const Json& b, const std::string& pointer) {
  TESSERA_ASSIGN_OR_RETURN(Json into, Flatten(a, pointer));
  TESSERA_ASSIGN_OR_RETURN(const Json from, Flatten(b, pointer));
  if (into.is_boolean()) return into == true ? from : into;
  if (from.is_boolean()) return from == true ? into : from;
  TESSERA_RETURN_IF_ERROR(Charge(CountValues(from)));
  TESSERA_RETURN_IF_ERROR(Charge(PairsOf(PropertiesOf(into), PropertiesOf(from))));
  MergeProperties(from, into);
  for (const auto& [key, value] : from.items()) {
    if (IsHandledApart(key)) continue;
    TESSERA_RETURN_IF_ERROR(MergeKeyword(key, value, pointer, into));
  }
  return into;
}

absl::Status SchemaMerger::MergeKeyword(const std::string& key, const Json& value,
                                        const std::string& pointer, Json& into) {
  const auto found = into.find(key);
  if (found == into.end() || *found == value) {
    into[key] = value;
    return absl::OkStatus();
  }
  TESSERA_RETURN_IF_ERROR(Charge(PairsOf(*found, value)));
  Json& own = *found;
  if (key == "type") {
    own = CommonTypes(own, value);
  } else if (key == "required" && own.is_array() && value.is_array()) {
    for (const Json& name : value) {
      if (!Contains(own, name)) own.push_back(name);
    }
  } else if (key == "enum" && own.is_array() && value.is_array()) {
    own = Common(own, value);
  } else if (key == "const") {
    into["enum"] = Json::array();  // two different constants
  } else if (key == "items") {
    own = BothOf(own, value);
  } else if (IsLower(key) || IsUpper(key)) {
    TESSERA_ASSIGN_OR_RETURN(own, Tighter(own, value, IsLower(key), Below(pointer, key)));
  } else if (IsNarrowingKeyword(key)) {
    return SchemaError(pointer, absl::StrCat("different ", key, " that must both hold are not "
                                             "supported"));
  }
  return absl::OkStatus();
}

}  // namespace tessera::coordinator::grammar
