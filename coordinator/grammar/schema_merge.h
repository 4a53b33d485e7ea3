// Schemas that must hold at once as one schema: for allOf, and for keywords beside $ref or anyOf.
#ifndef TESSERA_COORDINATOR_GRAMMAR_SCHEMA_MERGE_H_
#define TESSERA_COORDINATOR_GRAMMAR_SCHEMA_MERGE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/grammar/schema_document.h"

namespace tessera::coordinator::grammar {

class SchemaMerger {
 public:
  // `document` must outlive the object.
  explicit SchemaMerger(const SchemaDocument& document) : document_(document) {}

  // A schema without $ref and allOf that allows what both allow. Parts that both have are left as
  // an allOf, to be merged when they are come to. INVALID_ARGUMENT at `pointer` for what has no
  // such form, RESOURCE_EXHAUSTED beyond kMaxSchemaWork.
  absl::StatusOr<Json> Merge(const Json& a, const Json& b, const std::string& pointer);
  // `schema` without $ref and allOf of its own.
  absl::StatusOr<Json> Flatten(const Json& schema, const std::string& pointer);

  // Counts `values` towards the bound.
  absl::Status Charge(int64_t values);

 private:
  absl::Status MergeKeyword(const std::string& key, const Json& value, const std::string& pointer,
                            Json& into);

  const SchemaDocument& document_;
  int64_t work_ = 0;
  int nesting_ = 0;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_SCHEMA_MERGE_H_
