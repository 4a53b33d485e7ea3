#include "coordinator/grammar/json_schema.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "coordinator/grammar/json_rules.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/number_rules.h"
#include "coordinator/grammar/regex.h"
#include "coordinator/grammar/schema_document.h"
#include "coordinator/grammar/schema_keywords.h"
#include "coordinator/grammar/schema_merge.h"
#include "coordinator/grammar/string_formats.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator::grammar {
namespace {

class SchemaCompiler {
 public:
  SchemaCompiler(const SchemaDocument& document, Rules& rules)
      : document_(document), rules_(rules), json_(rules), merger_(document) {}

  absl::StatusOr<NodeId> Compile() {
    TESSERA_ASSIGN_OR_RETURN(const NodeId root, Visit(document_.root(), "#"));
    while (!pending_.empty()) {
      const PendingRule next = pending_.front();
      pending_.pop_front();
      TESSERA_ASSIGN_OR_RETURN(const NodeId body, Visit(*next.schema, next.pointer));
      rules_.SetBody(next.rule, body);
    }
    return root;
  }

 private:
  struct PendingRule {
    const Json* schema;
    std::string pointer;
    RuleId rule;
  };

  absl::StatusOr<NodeId> Visit(const Json& schema, const std::string& pointer) {
    if (++nesting_ > kMaxSchemaNesting) {
      return SchemaError(pointer, "nests too deep once its parts are put together");
    }
    TESSERA_RETURN_IF_ERROR(merger_.Charge(1));
    TESSERA_RETURN_IF_ERROR(rules_.status());
    auto node = VisitAnyForm(schema, pointer);
    --nesting_;
    return node;
  }

  absl::StatusOr<NodeId> VisitAnyForm(const Json& schema, const std::string& pointer) {
    if (schema.is_boolean()) return schema == true ? json_.AnyValue() : rules_.Nothing();
    if (!schema.is_object()) return SchemaError(pointer, "expected a schema");
    const SchemaAt at = {schema, pointer};
    TESSERA_RETURN_IF_ERROR(CheckSupported(at));
    if (schema.contains("$ref")) return VisitReference(at);
    if (schema.contains("allOf")) {
      TESSERA_ASSIGN_OR_RETURN(const Json merged, merger_.Flatten(schema, pointer));
      return Visit(merged, pointer);
    }
    if (schema.contains("anyOf")) return VisitOptions(at, "anyOf");
    if (schema.contains("oneOf")) return VisitOptions(at, "oneOf");
    if (HasAny(schema, {"enum", "const"})) return VisitValues(at);
    return VisitTypes(at);
  }

  absl::StatusOr<NodeId> VisitReference(const SchemaAt& at) {
    if (IsNarrowingBeside(at.schema, "$ref")) {
      TESSERA_ASSIGN_OR_RETURN(const Json merged, merger_.Flatten(at.schema, at.pointer));
      return Visit(merged, at.pointer);
    }
    const Json& ref = at.schema["$ref"];
    if (!ref.is_string()) return SchemaError(Below(at.pointer, "$ref"), "expected a string");
    const auto name = ref.get<std::string>();
    const auto known = rule_of_ref_.find(name);
    if (known != rule_of_ref_.end()) return rules_.Call(known->second);
    TESSERA_ASSIGN_OR_RETURN(const Json* target, document_.Resolve(name, at.pointer));
    const RuleId rule = rules_.AddRule();
    rule_of_ref_.emplace(name, rule);
    pending_.push_back({target, name, rule});
    return rules_.Call(rule);
  }

  // Each option with what stands beside it.
  absl::StatusOr<NodeId> VisitOptions(const SchemaAt& at, const char* key) {
    const Json& options = at.schema[key];
    const std::string place = Below(at.pointer, key);
    if (!options.is_array() || options.empty()) return SchemaError(place, "expected schemas");
    const bool has_more = IsNarrowingBeside(at.schema, key);
    Json beside = Json::object();
    if (has_more) {
      TESSERA_ASSIGN_OR_RETURN(beside, merger_.Flatten(at.schema, at.pointer));
      beside.erase(key);
    }
    std::vector<NodeId> nodes;
    for (size_t i = 0; i < options.size(); ++i) {
      const std::string here = Below(place, i);
      if (!has_more) {
        TESSERA_ASSIGN_OR_RETURN(const NodeId node, Visit(options[i], here));
        nodes.push_back(node);
        continue;
      }
      TESSERA_ASSIGN_OR_RETURN(const Json merged, merger_.Merge(beside, options[i], here));
      TESSERA_ASSIGN_OR_RETURN(const NodeId node, Visit(merged, here));
      nodes.push_back(node);
    }
    return rules_.Alternatives(std::move(nodes));
  }

  absl::StatusOr<NodeId> VisitValues(const SchemaAt& at) {
    for (const char* key :
         {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems",
          "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
          "exclusiveMinimum", "exclusiveMaximum"}) {
      if (at.schema.contains(key)) {
        return SchemaError(at.pointer, absl::StrCat(key, " beside enum or const is not supported"));
      }
    }
    TESSERA_ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(at));
    const Json* listed = Find(at.schema, "enum");
    const Json* constant = Find(at.schema, "const");
    if (listed != nullptr && !listed->is_array()) {
      return SchemaError(Below(at.pointer, "enum"), "expected a list of values");
    }
    const Json values = listed != nullptr ? *listed : Json::array({*constant});
    std::vector<std::string> texts;
    for (const Json& value : values) {
      if (constant != nullptr && value != *constant) continue;
      if (HasType(value, types)) texts.push_back(value.dump());
    }
    return rules_.Words(std::move(texts));
  }

  absl::StatusOr<NodeId> VisitTypes(const SchemaAt& at) {
    TESSERA_ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(at));
    if (types.size() > 5 && !IsNarrowing(at.schema)) return json_.AnyValue();
    std::vector<NodeId> options;
    for (const std::string& type : types) {
      TESSERA_ASSIGN_OR_RETURN(const NodeId option, VisitType(at, type));
      options.push_back(option);
    }
    return rules_.Alternatives(std::move(options));
  }

  absl::StatusOr<NodeId> VisitType(const SchemaAt& at, const std::string& type) {
    if (type == "object") return VisitObject(at);
    if (type == "array") return VisitArray(at);
    if (type == "string") return VisitString(at);
    if (type == "boolean") return json_.Boolean();
    if (type == "null") return json_.Null();
    return VisitNumber(at, type == "integer");
  }

  absl::StatusOr<NodeId> VisitNumber(const SchemaAt& at, bool is_integer) {
    TESSERA_ASSIGN_OR_RETURN(const std::optional<Bound> minimum, ReadBound(at, true));
    TESSERA_ASSIGN_OR_RETURN(const std::optional<Bound> maximum, ReadBound(at, false));
    if (!minimum && !maximum) return is_integer ? json_.Integer() : json_.Number();
    if (is_integer) return IntegerBetween(rules_, minimum, maximum);
    if (!CanBeExact(minimum, maximum)) {
      return SchemaError(at.pointer, "exclusive bounds of more than 15 digits are not supported");
    }
    return NumberBetween(rules_, minimum, maximum);
  }

  absl::StatusOr<NodeId> VisitString(const SchemaAt& at) {
    TESSERA_ASSIGN_OR_RETURN(const std::optional<int64_t> minimum, ReadCount(at, "minLength"));
    TESSERA_ASSIGN_OR_RETURN(const std::optional<int64_t> maximum, ReadCount(at, "maxLength"));
    TESSERA_ASSIGN_OR_RETURN(const std::optional<NodeId> content, VisitContent(at));
    if (content && (minimum || maximum)) {
      return SchemaError(at.pointer, "minLength or maxLength beside pattern or format is not "
                                     "supported");
    }
    if (content) return json_.Quoted(*content);
    if (minimum && maximum && *minimum > *maximum) return rules_.Nothing();
    return json_.String(minimum.value_or(0), maximum.value_or(kNoMaximum));
  }

  // What pattern or format say of a string.
  absl::StatusOr<std::optional<NodeId>> VisitContent(const SchemaAt& at) {
    const Json* pattern = Find(at.schema, "pattern");
    const Json* format = Find(at.schema, "format");
    for (const auto& [key, value] : {std::pair("pattern", pattern), std::pair("format", format)}) {
      if (value != nullptr && !value->is_string()) {
        return SchemaError(Below(at.pointer, key), "expected a string");
      }
    }
    const std::optional<std::string> format_regex =
        format == nullptr ? std::nullopt : RegexOfFormat(format->get<std::string>());
    if (pattern != nullptr && format_regex) {
      return SchemaError(at.pointer, "pattern beside this format is not supported");
    }
    if (pattern == nullptr && !format_regex) return std::nullopt;
    const RegexOptions options = {.write = WriteJsonCharacter, .is_search = pattern != nullptr};
    auto content = ParseRegex(pattern != nullptr ? pattern->get<std::string>() : *format_regex,
                              options, rules_);
    if (!content.ok()) {
      return SchemaError(Below(at.pointer, "pattern"), content.status().message());
    }
    return *content;
  }

  absl::StatusOr<NodeId> VisitArray(const SchemaAt& at) {
    TESSERA_ASSIGN_OR_RETURN(const std::optional<int64_t> minimum, ReadCount(at, "minItems"));
    TESSERA_ASSIGN_OR_RETURN(const std::optional<int64_t> maximum, ReadCount(at, "maxItems"));
    const int64_t least = minimum.value_or(0);
    const int64_t most = maximum.value_or(kNoMaximum);
    if (most != kNoMaximum && least > most) return rules_.Nothing();
    TESSERA_ASSIGN_OR_RETURN(std::vector<NodeId> prefix, VisitPrefix(at));
    TESSERA_ASSIGN_OR_RETURN(const NodeId item, VisitItems(at, !prefix.empty()));
    if (most != kNoMaximum && static_cast<int64_t>(prefix.size()) > most) prefix.resize(most);
    return json_.Array(Items(prefix, item, least, most));
  }

  absl::StatusOr<std::vector<NodeId>> VisitPrefix(const SchemaAt& at) {
    std::vector<NodeId> nodes;
    const Json* prefix = Find(at.schema, "prefixItems");
    if (prefix == nullptr) return nodes;
    const std::string place = Below(at.pointer, "prefixItems");
    if (!prefix->is_array()) return SchemaError(place, "expected schemas");
    for (size_t i = 0; i < prefix->size(); ++i) {
      TESSERA_ASSIGN_OR_RETURN(const NodeId node, Visit((*prefix)[i], Below(place, i)));
      nodes.push_back(node);
    }
    return nodes;
  }

  absl::StatusOr<NodeId> VisitItems(const SchemaAt& at, bool has_prefix) {
    const Json* items = Find(at.schema, "items");
    if (items == nullptr) return has_prefix ? rules_.Nothing() : json_.AnyValue();
    if (items->is_array()) {
      return SchemaError(Below(at.pointer, "items"), "expected one schema; lists of them are "
                                                     "prefixItems");
    }
    return Visit(*items, Below(at.pointer, "items"));
  }

  // The prefix, then `item` as often as it takes; least .. most in all, with commas between.
  NodeId Items(const std::vector<NodeId>& prefix, NodeId item, int64_t least, int64_t most) {
    const auto first = static_cast<int64_t>(prefix.size());
    const int64_t rest_least = std::max<int64_t>(0, least - first);
    const int64_t rest_most = most == kNoMaximum ? kNoMaximum : most - first;
    const NodeId next = rules_.Concat({json_.Comma(), item});
    if (first == 0) return List(item, least, most);
    NodeId tail = rules_.Repeat(next, rest_least, rest_most);
    for (int64_t i = first; i-- > 0;) {
      tail = i == 0 ? rules_.Concat({prefix[i], tail})
                    : rules_.Concat({json_.Comma(), prefix[i], tail});
      if (i >= least) tail = rules_.Optional(tail);
    }
    return tail;
  }

  // least .. most times `item` with commas between. An item that has to stand in two places becomes
  // a rule, or lists in lists would double with every level.
  NodeId List(NodeId item, int64_t least, int64_t most) {
    if (most == 0) return rules_.Empty();
    if (most == kNoMaximum && least <= 1) {
      return rules_.Members({.items = {},
                             .is_required = {},
                             .separator = json_.Comma(),
                             .extra = item,
                             .needs_one = least == 1});
    }
    const RuleId rule = rules_.AddRule();
    rules_.SetBody(rule, item);
    const NodeId call = rules_.Call(rule);
    const NodeId next = rules_.Concat({json_.Comma(), call});
    const NodeId list = rules_.Concat(
        {call, rules_.Repeat(next, std::max<int64_t>(0, least - 1),
                             most == kNoMaximum ? kNoMaximum : most - 1)});
    return least == 0 ? rules_.Optional(list) : list;
  }

  absl::StatusOr<NodeId> VisitObject(const SchemaAt& at) {
    TESSERA_ASSIGN_OR_RETURN(const std::vector<std::string> required, ReadStrings(at, "required"));
    const Json none = Json::object();
    const Json* properties = Find(at.schema, "properties");
    if (properties == nullptr) properties = &none;
    if (!properties->is_object()) {
      return SchemaError(Below(at.pointer, "properties"), "expected an object");
    }
    const Json* rest = Find(at.schema, "additionalProperties");
    TESSERA_ASSIGN_OR_RETURN(const NodeId rest_value, VisitRest(at, rest));
    absl::flat_hash_set<std::string> missing(required.begin(), required.end());
    Rules::MemberList members;
    std::vector<std::string> names;
    const auto add = [&](const std::string& name, NodeId value, bool is_required) {
      members.items.push_back(Member(rules_.Literal(Json(name).dump()), value));
      members.is_required.push_back(is_required);
      names.push_back(name);
    };
    for (const auto& [name, schema] : properties->items()) {
      TESSERA_ASSIGN_OR_RETURN(const NodeId value,
                               Visit(schema, Below(Below(at.pointer, "properties"), name)));
      add(name, value, missing.erase(name) > 0);
    }
    for (const std::string& name : required) {
      if (missing.erase(name) > 0) add(name, rest_value, true);
    }
    const bool is_open = rest != nullptr ? *rest != false : names.empty();
    members.separator = json_.Comma();
    members.extra = is_open ? Member(json_.KeyOtherThan(names), rest_value) : rules_.Nothing();
    return rules_.Concat(
        {rules_.Literal("{"), rules_.Members(std::move(members)), rules_.Literal("}")});
  }

  absl::StatusOr<NodeId> VisitRest(const SchemaAt& at, const Json* rest) {
    if (rest == nullptr) return json_.AnyValue();
    return Visit(*rest, Below(at.pointer, "additionalProperties"));
  }

  NodeId Member(NodeId key, NodeId value) { return rules_.Concat({key, json_.Colon(), value}); }

  const SchemaDocument& document_;
  Rules& rules_;
  JsonRules json_;
  SchemaMerger merger_;
  absl::flat_hash_map<std::string, RuleId> rule_of_ref_;
  std::deque<PendingRule> pending_;
  int nesting_ = 0;
};

}  // namespace

absl::StatusOr<NodeId> ParseJsonSchema(absl::string_view text, Rules& rules) {
  TESSERA_ASSIGN_OR_RETURN(const SchemaDocument document, SchemaDocument::Parse(text));
  return SchemaCompiler(document, rules).Compile();
}

}  // namespace tessera::coordinator::grammar
