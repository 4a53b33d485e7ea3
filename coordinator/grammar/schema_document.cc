#include "coordinator/grammar/schema_document.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "coordinator/grammar/limits.h"
#include "proto/base/utf8.h"

namespace tessera::coordinator::grammar {
namespace {

constexpr size_t kMaxShownBytes = 200;

std::string Shown(absl::string_view text) {
  if (text.size() <= kMaxShownBytes) return std::string(text);
  text = text.substr(0, kMaxShownBytes);
  return absl::StrCat(text.substr(0, WholeUtf8Prefix(text)), "...");
}

// What has to be known before a parser may see the text.
struct Shape {
  int nesting = 0;  // the brackets open at once at the worst place, strings aside
  int members = 0;  // of the largest bracket
};

Shape ShapeOf(absl::string_view json) {
  Shape shape;
  std::vector<int> open;  // members so far
  bool in_string = false;
  for (size_t i = 0; i < json.size() && shape.nesting <= kMaxSchemaNesting; ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      open.push_back(0);
      shape.nesting = std::max(shape.nesting, static_cast<int>(open.size()));
    } else if ((c == ']' || c == '}') && !open.empty()) {
      open.pop_back();
    } else if (c == ':' && !open.empty()) {
      shape.members = std::max(shape.members, ++open.back());
    }
  }
  return shape;
}

// %41 → A. What is no escape stays.
std::string PercentDecoded(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    int value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        absl::SimpleHexAtoi(text.substr(i + 1, 2), &value)) {
      decoded.push_back(static_cast<char>(value));
      i += 2;
    } else {
      decoded.push_back(text[i]);
    }
  }
  return decoded;
}

}  // namespace

absl::Status SchemaError(absl::string_view pointer, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("at ", Shown(pointer), ": ", Shown(what)));
}

std::string Below(absl::string_view pointer, absl::string_view key) {
  return absl::StrCat(pointer, "/", absl::StrReplaceAll(key, {{"~", "~0"}, {"/", "~1"}}));
}

std::string Below(absl::string_view pointer, size_t index) {
  return absl::StrCat(pointer, "/", index);
}

absl::StatusOr<SchemaDocument> SchemaDocument::Parse(absl::string_view text) {
  const Shape shape = ShapeOf(text);
  if (shape.nesting > kMaxSchemaNesting) {
    return absl::InvalidArgumentError(
        absl::StrCat("nests more than ", kMaxSchemaNesting, " levels deep"));
  }
  if (shape.members > kMaxSchemaMembers) {
    return absl::InvalidArgumentError(
        absl::StrCat("has an object of more than ", kMaxSchemaMembers, " members"));
  }
  try {
    return SchemaDocument(Json::parse(text.begin(), text.end()));
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat("is no JSON (at offset ", error.byte, ")"));
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError("has a number beyond the range of a double");
  }
}

absl::StatusOr<const Json*> SchemaDocument::Resolve(const std::string& ref,
                                                    absl::string_view from) const {
  if (ref != "#" && !absl::StartsWith(ref, "#/")) {
    return SchemaError(from, absl::StrCat("$ref ", Quoted(ref),
                                          " is not supported; expected # or #/... within this "
                                          "schema"));
  }
  const auto missing = [&] {
    return SchemaError(from, absl::StrCat("$ref ", Quoted(ref), " names nothing in this schema"));
  };
  try {
    const Json::json_pointer pointer(PercentDecoded(absl::string_view(ref).substr(1)));
    if (!root_.contains(pointer)) return missing();
    return &root_.at(pointer);
  } catch (const Json::exception&) {
    return missing();
  }
}

}  // namespace tessera::coordinator::grammar
