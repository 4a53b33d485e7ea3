// A schema's text as a JSON document, and the parts of it that a $ref names.
#ifndef TESSERA_COORDINATOR_GRAMMAR_SCHEMA_DOCUMENT_H_
#define TESSERA_COORDINATOR_GRAMMAR_SCHEMA_DOCUMENT_H_

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator::grammar {

using Json = nlohmann::ordered_json;

// INVALID_ARGUMENT "at <pointer>: <what>".
absl::Status SchemaError(absl::string_view pointer, absl::string_view what);

// `pointer` and one more step, as RFC 6901 writes it.
std::string Below(absl::string_view pointer, absl::string_view key);
std::string Below(absl::string_view pointer, size_t index);

class SchemaDocument {
 public:
  // Refuses nesting and objects beyond the bounds of limits.h before it parses.
  static absl::StatusOr<SchemaDocument> Parse(absl::string_view text);

  const Json& root() const { return root_; }
  // "#", "#/$defs/node"; `from` is where it stands, for the message.
  absl::StatusOr<const Json*> Resolve(const std::string& ref, absl::string_view from) const;

 private:
  explicit SchemaDocument(Json root) : root_(std::move(root)) {}
  Json root_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_SCHEMA_DOCUMENT_H_
