// JSON Schema as rules. The subset (drafts 7 to 2020-12, one document):
//
//   any        type (one or a list), enum, const, anyOf, oneOf (as anyOf), allOf (merged), $ref to
//              "#" or "#/..." (recursion included), $defs, definitions, true and false
//   object     properties, required, additionalProperties. Properties come in the schema's order,
//              optional ones may be left out. Without additionalProperties, a schema that names
//              properties allows no others
//   array      items, prefixItems, minItems, maxItems. prefixItems without items allow no others
//   string     minLength, maxLength, or pattern (regex.h), or format: date, time, date-time, uuid,
//              email, ipv4. Other formats are annotations
//   number     minimum, maximum, exclusiveMinimum, exclusiveMaximum; integer likewise, exactly
//
// Annotations and unknown keywords are ignored; keywords that would narrow the result and are not
// supported (uniqueItems, multipleOf, patternProperties, not, if ...) are refused by name, and so
// are combinations named in the message. Every output is valid; a few valid documents are never
// written (other orders of properties, white space, numbers of many digits).
#ifndef TESSERA_COORDINATOR_GRAMMAR_JSON_SCHEMA_H_
#define TESSERA_COORDINATOR_GRAMMAR_JSON_SCHEMA_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

// INVALID_ARGUMENT naming the place as a JSON pointer, or the offset where it is no JSON.
absl::StatusOr<NodeId> ParseJsonSchema(absl::string_view text, Rules& rules);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_JSON_SCHEMA_H_
