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
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace tessera::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

// What a page says of flags in its tables, and the declarations do not: a cell that begins with
// `--flag` names flags that exist, and a bare (value) in the cell behind it is the default of one.
std::vector<std::string> DriftOf(const std::string& page) {
  const std::multimap<std::string, std::string> defaults = DefaultsOfFlags();
  const std::regex flag("--[a-z][a-z0-9-]*");
  const std::regex value("\\(`?([0-9][0-9.]*|[a-z0-9]+`)\\)");
  std::vector<std::string> drift;
  for (const absl::string_view line : absl::StrSplit(page, '\n')) {
    if (!absl::StartsWith(line, "|")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    for (size_t i = 1; i + 1 < cells.size(); ++i) {
      if (!absl::StartsWith(cells[i], " `--")) continue;
      std::set<std::string> allowed;
      for (std::sregex_iterator it(cells[i].begin(), cells[i].end(), flag), end; it != end; ++it) {
        const auto [first, last] = defaults.equal_range(it->str());
        if (first == last) drift.push_back(absl::StrCat("no flag ", it->str()));
        for (auto one = first; one != last; ++one) allowed.insert(one->second);
      }
      const std::string& behind = cells[i + 1];
      for (std::sregex_iterator it(behind.begin(), behind.end(), value), end; it != end; ++it) {
        const std::string said = absl::StrReplaceAll((*it)[1].str(), {{"`", ""}});
        if (allowed.count(said) == 0) drift.push_back(absl::StrCat(cells[i], "is not ", said));
      }
    }
  }
  return drift;
}

TEST(FlagsReference, TheReadmesSayTheSame) {
  for (const char* page : {"README.md", "coordinator/README.md", "worker/README.md",
                           "deploy/README.md"}) {
    const fs::path path = fs::path(TESSERA_SOURCE_DIR) / page;
    EXPECT_THAT(DriftOf(Read(path)), IsEmpty()) << page;  // one that is not there says nothing
  }
}

TEST(FlagsReference, DriftOfAReadmeIsSeen) {
  EXPECT_THAT(DriftOf("| `--port`, `--grpc-port` | HTTP (8000), gRPC (50051) |"), IsEmpty());
  EXPECT_THAT(DriftOf("| `--device` | `cpu`, `cuda` (`auto`) |"), IsEmpty());
  EXPECT_THAT(DriftOf("| `--port` | HTTP (8001) |"), ElementsAre(" `--port` is not 8001"));
  EXPECT_THAT(DriftOf("| a | b | `--launch` | who (`slurm`) |").size(), 1u);
  EXPECT_THAT(DriftOf("| `--expert-parallel-size`, `-ep` | groups |"),
              ElementsAre("no flag --expert-parallel-size"));
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
              ElementsAre("TESSERA_NEW"));
  EXPECT_THAT(VariablesReadInScript("echo ${TESSERA_NEW:-1}"),
              ElementsAre("TESSERA_NEW"));
}

}  // namespace
}  // namespace tessera::testing
