// The keywords of JSON Schema: which are unsupported, which narrow a result, and their values read
// with a message that names the place.
#ifndef TESSERA_COORDINATOR_GRAMMAR_SCHEMA_KEYWORDS_H_
#define TESSERA_COORDINATOR_GRAMMAR_SCHEMA_KEYWORDS_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/grammar/number_rules.h"
#include "coordinator/grammar/schema_document.h"

namespace tessera::coordinator::grammar {

// A schema at a place. Only views: the document outlives it.
struct SchemaAt {
  const Json& schema;  // a JSON object
  const std::string& pointer;
};

// INVALID_ARGUMENT naming the first keyword that would narrow the result and is not supported.
absl::Status CheckSupported(const SchemaAt& at);

// Null when it is absent.
const Json* Find(const Json& object, const char* key);
bool HasAny(const Json& object, std::initializer_list<const char*> keys);
bool IsNarrowingKeyword(absl::string_view key);
// Whether any keyword narrows the result: not only annotations and definitions.
bool IsNarrowing(const Json& schema);
// Likewise, `key` aside.
bool IsNarrowingBeside(const Json& schema, absl::string_view key);

// The types that `schema` names or implies; all of them when it does neither.
absl::StatusOr<std::vector<std::string>> TypesOf(const SchemaAt& at);
bool HasType(const Json& value, const std::vector<std::string>& types);

// A count, 0 .. kMaxRepeatCount.
absl::StatusOr<std::optional<int64_t>> ReadCount(const SchemaAt& at, const char* key);
absl::StatusOr<std::vector<std::string>> ReadStrings(const SchemaAt& at, const char* key);
// `inclusive` and `exclusive` as one: the tighter of minimum and exclusiveMinimum (is_lower), or of
// maximum and exclusiveMaximum.
absl::StatusOr<std::optional<Bound>> ReadBound(const SchemaAt& at, bool is_lower);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_SCHEMA_KEYWORDS_H_
