#include "coordinator/openai/json_input.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

using nlohmann::json;

constexpr int kNamedDepth = 3;  // response_format.json_schema.schema

absl::Status BadBody(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the body ", what));
}

// A name that may stand in an error as it is.
bool IsPlainName(absl::string_view name) {
  constexpr size_t kLongest = 64;
  const auto plain = [](char c) { return absl::ascii_isalnum(c) || c == '_'; };
  return !name.empty() && name.size() <= kLongest && std::all_of(name.begin(), name.end(), plain);
}

// `names`: of the members where they are, the outermost first.
absl::Status TooManyMembers(absl::Span<const absl::string_view> names) {
  const std::string what = absl::StrCat("has more than ", kMaxJsonMembers, " members");
  const auto end = std::find_if_not(names.begin(), names.end(), IsPlainName);
  if (end == names.begin()) return BadBody(what);
  return wire::FieldError(absl::StrJoin(names.begin(), end, "."), what);
}

// Before a tree is built: how deep and how large it would be. One pass, no recursion; text that is
// no JSON is left to the parser.
absl::Status CheckSize(absl::string_view text) {
  int depth = 0;
  int values = 0;
  int members = 0;
  size_t string_start = 0;
  absl::string_view string;                  // the last one
  absl::string_view names[kNamedDepth + 1];  // of the members open at each depth; empty: in a list
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
        string = text.substr(string_start, i - string_start);
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        string_start = i + 1;
        break;
      case ':':
        if (++members > kMaxJsonMembers) {
          return TooManyMembers(absl::MakeConstSpan(names).subspan(
              1, static_cast<size_t>(std::clamp(depth - 1, 0, kNamedDepth))));
        }
        if (depth >= 1 && depth <= kNamedDepth) names[depth] = string;
        break;
      case '[':
      case '{':
        ++values;
        if (++depth > kMaxJsonDepth) {
          return BadBody(absl::StrCat("nests deeper than ", kMaxJsonDepth, " levels at byte ", i));
        }
        if (depth >= 1 && depth <= kNamedDepth) names[depth] = {};
        break;
      case ']':
      case '}': --depth; break;
      case ',':
        if (++values > kMaxJsonValues) {
          return BadBody(absl::StrCat("has more than ", kMaxJsonValues, " values"));
        }
        break;
      default: break;
    }
  }
  return absl::OkStatus();
}

std::optional<double> Whole(const json& value, double low, double high) {
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= low && number <= high) || number != std::floor(number)) return std::nullopt;
  return number;
}

std::string Shown(const json& value) {
  if (value.is_number()) return absl::StrCat("is ", value.dump());
  return absl::StrCat("is ", JsonTypeName(value));
}

}  // namespace

absl::string_view JsonTypeName(const json& value) {
  switch (value.type()) {
    case json::value_t::null: return "null";
    case json::value_t::object: return "an object";
    case json::value_t::array: return "a list";
    case json::value_t::string: return "a string";
    case json::value_t::boolean: return "a boolean";
    case json::value_t::number_integer:
    case json::value_t::number_unsigned: return "an integer";
    case json::value_t::number_float: return "a number";
    default: return "unknown";
  }
}

absl::StatusOr<json> ParseJsonObject(absl::string_view text) {
  if (text.empty()) return BadBody("is empty; expected a JSON object");
  const absl::Status size = CheckSize(text);
  if (!size.ok()) return size;
  json value;
  try {
    value = json::parse(text.begin(), text.end());
  } catch (const json::parse_error& error) {
    return BadBody(absl::StrCat("is not valid JSON in UTF-8: a syntax error at byte ", error.byte));
  } catch (const json::out_of_range&) {
    return BadBody("has a number that is too large for a double");
  } catch (const json::exception&) {
    return BadBody("is not valid JSON");
  }
  if (!value.is_object()) {
    return BadBody(absl::StrCat("is ", JsonTypeName(value), "; expected a JSON object"));
  }
  return value;
}

std::optional<int32_t> JsonInt32(const json& value) {
  constexpr int32_t kLow = std::numeric_limits<int32_t>::min();
  constexpr int32_t kHigh = std::numeric_limits<int32_t>::max();
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(kHigh)) return std::nullopt;
    return static_cast<int32_t>(number);
  }
  if (value.is_number_integer()) {
    const auto number = value.get<int64_t>();
    if (number < kLow || number > kHigh) return std::nullopt;
    return static_cast<int32_t>(number);
  }
  const std::optional<double> whole = Whole(value, kLow, kHigh);
  if (!whole) return std::nullopt;
  return static_cast<int32_t>(*whole);
}

const json* JsonFields::Any(const char* name) const {
  if (!status_.ok()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::Fail(absl::string_view name, absl::string_view what) {
  if (status_.ok()) status_ = wire::FieldError(absl::StrCat(prefix_, name), what);
}

void JsonFields::FailType(const char* name, const json& value, absl::string_view expected) {
  Fail(name, absl::StrCat(Shown(value), "; expected ", expected));
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  FailType(name, *value, "true or false");
  return std::nullopt;
}

std::optional<std::string> JsonFields::String(const char* name) {
  const json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  FailType(name, *value, "a string");
  return std::nullopt;
}

std::optional<int32_t> JsonFields::Int(const char* name) {
  const json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int32_t> number = JsonInt32(*value);
  if (!number) FailType(name, *value, "an integer of 32 bits");
  return number;
}

std::optional<uint64_t> JsonFields::Uint64(const char* name) {
  const json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  if (value->is_number_integer()) return static_cast<uint64_t>(value->get<int64_t>());
  constexpr double kExact = 9007199254740992.0;  // 2^53
  const std::optional<double> whole = Whole(*value, -kExact, kExact);
  if (whole) return static_cast<uint64_t>(static_cast<int64_t>(*whole));
  FailType(name, *value, "an integer of 64 bits");
  return std::nullopt;
}

std::optional<float> JsonFields::Float(const char* name) {
  const json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (std::abs(number) <= std::numeric_limits<float>::max()) return static_cast<float>(number);
  }
  FailType(name, *value, "a number");
  return std::nullopt;
}

const json* JsonFields::Object(const char* name) {
  const json* value = Any(name);
  if (value == nullptr || value->is_object()) return value;
  FailType(name, *value, "an object");
  return nullptr;
}

const json* JsonFields::Array(const char* name) {
  const json* value = Any(name);
  if (value == nullptr || value->is_array()) return value;
  FailType(name, *value, "a list");
  return nullptr;
}

std::optional<std::vector<std::string>> JsonFields::Strings(const char* name) {
  const json* list = Array(name);
  if (list == nullptr) return std::nullopt;
  if (list->size() > kMaxListItems) {
    Fail(name, absl::StrCat("has ", list->size(), " items; at most ", kMaxListItems, " are read"));
    return std::nullopt;
  }
  std::vector<std::string> strings;
  for (const json& item : *list) {
    if (!item.is_string()) {
      Fail(absl::StrCat(name, "[", strings.size(), "]"),
           absl::StrCat(Shown(item), "; expected a string"));
      return std::nullopt;
    }
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

std::optional<std::vector<std::string>> JsonFields::StringOrStrings(const char* name) {
  const json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{value->get<std::string>()};
  if (value->is_array()) return Strings(name);
  FailType(name, *value, "a string or a list of strings");
  return std::nullopt;
}

std::optional<std::vector<int32_t>> JsonFields::Ints(const char* name, size_t max_items) {
  const json* list = Array(name);
  if (list == nullptr) return std::nullopt;
  if (list->size() > max_items) {
    Fail(name, absl::StrCat("has ", list->size(), " items; at most ", max_items, " are read"));
    return std::nullopt;
  }
  std::vector<int32_t> numbers;
  numbers.reserve(list->size());
  for (const json& item : *list) {
    const std::optional<int32_t> number = JsonInt32(item);
    if (!number) {
      Fail(absl::StrCat(name, "[", numbers.size(), "]"),
           absl::StrCat(Shown(item), "; expected an integer of 32 bits"));
      return std::nullopt;
    }
    numbers.push_back(*number);
  }
  return numbers;
}

}  // namespace tessera::coordinator
