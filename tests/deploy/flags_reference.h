// deploy/flags.md: every flag of both programs, the sampling fields, ports and environment
// variables, as Markdown made of their declarations.
#ifndef TESSERA_TESTS_DEPLOY_FLAGS_REFERENCE_H_
#define TESSERA_TESTS_DEPLOY_FLAGS_REFERENCE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tessera::testing {

// What the environment says that no flag does.
struct EnvironmentVariable {
  absl::string_view name;
  absl::string_view reader;
  absl::string_view meaning;
};

std::vector<EnvironmentVariable> OtherVariables();

std::string FlagsReference();

// "--port" → "8000", of every command that has it.
std::multimap<std::string, std::string> DefaultsOfFlags();

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_DEPLOY_FLAGS_REFERENCE_H_
