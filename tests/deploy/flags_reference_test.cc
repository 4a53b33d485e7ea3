// deploy/flags.md is what the declarations say, and names every environment variable that product
// code reads.
#include "tests/deploy/flags_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tessera::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(FlagsReference, IsWhatTheDeclarationsSay) {
  const fs::path path = fs::path(TESSERA_SOURCE_DIR) / "deploy" / "flags.md";
  const std::string now = FlagsReference();
  if (std::getenv("TESSERA_REWRITE") != nullptr) std::ofstream(path) << now;
  const std::vector<std::string> written = absl::StrSplit(Read(path), '\n');
  const std::vector<std::string> expected = absl::StrSplit(now, '\n');
  for (size_t i = 0; i < std::min(written.size(), expected.size()); ++i) {
    ASSERT_EQ(written[i], expected[i])
        << "line " << i + 1 << " of deploy/flags.md is not what the code declares. Rewrite it: "
        << "TESSERA_REWRITE=1 build/release/bin/deploy_flags_reference_test";
  }
  EXPECT_EQ(written.size(), expected.size()) << "lines of deploy/flags.md; rewrite it: "
      << "TESSERA_REWRITE=1 build/release/bin/deploy_flags_reference_test";
}

TEST(FlagsReference, HasWhatWasNowhereDocumented) {
  const std::string text = FlagsReference();
  for (const char* flag :
       {"--comm-timeout", "--join-timeout", "--health-port", "--no-shared-memory", "--communicator",
        "--describe", "--verbose", "--json-schema", "--output"}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("`", flag, "`")));
  }
  EXPECT_THAT(text, HasSubstr("| `--port` | 0 .. 65535 | `8000` |"));
  EXPECT_THAT(text, HasSubstr("| `--grpc-port` | `tessera serve` | `50051` |"));
  EXPECT_THAT(text, HasSubstr("auto, scalar, avx2, avx512, avx512vnni, avx512bf16 or amx"));
  EXPECT_THAT(text, HasSubstr("| `TESSERA_MAX_MODEL_LEN` | plan |"));
  EXPECT_THAT(text, HasSubstr("| `temperature` | 0 .. 100 | 1 |"));
}

// First arguments that look like environment variables in a file that reads the environment, be it
// by a function of its own.
std::set<std::string> VariablesReadIn(const std::string& source) {
  std::set<std::string> names;
  if (!absl::StrContains(source, "getenv")) return names;
  const std::regex name("\\(\\s*\"([A-Z][A-Z0-9_]+)\"");
  for (std::sregex_iterator it(source.begin(), source.end(), name), end; it != end; ++it) {
    names.insert((*it)[1]);
  }
  return names;
}

std::set<std::string> VariablesReadInScript(const std::string& source) {
  std::set<std::string> names;
  const std::regex name("\\$\\{?((TESSERA|XDG)_[A-Z_]+)");
  for (std::sregex_iterator it(source.begin(), source.end(), name), end; it != end; ++it) {
    names.insert((*it)[1]);
  }
  return names;
}

TEST(FlagsReference, NamesEveryVariableThatIsRead) {
  const fs::path root = TESSERA_SOURCE_DIR;
  std::set<std::string> read;
  int files = 0;
  for (const char* folder : {"coordinator", "worker", "kernels", "proto"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension();
      if (extension != ".cc" && extension != ".h" && extension != ".cu") continue;
      read.merge(VariablesReadIn(Read(entry.path())));
      ++files;
    }
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(root / "deploy")) {
    if (entry.path().extension() == ".sh") read.merge(VariablesReadInScript(Read(entry.path())));
  }
  EXPECT_GT(files, 300);
  std::set<std::string> named;
  for (const EnvironmentVariable& variable : OtherVariables()) {
    named.insert(std::string(variable.name));
  }
  EXPECT_EQ(read, named) << "what is read, and OtherVariables() of flags_reference.cc";
}

TEST(FlagsReference, ReadingTheEnvironmentIsSeen) {
  EXPECT_THAT(VariablesReadIn("getenv(name); int n = Number(\"TESSERA_NEW\", 1);"),
              ::testing::ElementsAre("TESSERA_NEW"));
  EXPECT_THAT(VariablesReadInScript("echo ${TESSERA_NEW:-1}"),
              ::testing::ElementsAre("TESSERA_NEW"));
}

}  // namespace
}  // namespace tessera::testing
