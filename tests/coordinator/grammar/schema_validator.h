// A second opinion for the tests: whether a JSON value is valid under a schema, written from the
// standard's words with none of the grammar's code. Knows the keywords the grammar knows.
#ifndef TESSERA_TESTS_COORDINATOR_GRAMMAR_SCHEMA_VALIDATOR_H_
#define TESSERA_TESTS_COORDINATOR_GRAMMAR_SCHEMA_VALIDATOR_H_

#include <nlohmann/json.hpp>

namespace tessera::coordinator {

// `root` is the whole document, for $ref.
bool IsValid(const nlohmann::json& value, const nlohmann::json& schema, const nlohmann::json& root);

}  // namespace tessera::coordinator

#endif  // TESSERA_TESTS_COORDINATOR_GRAMMAR_SCHEMA_VALIDATOR_H_
