#include "coordinator/cli/input.h"

#include <cstdio>
#include <fstream>
#include <iostream>
#include <istream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 16;

absl::Status CannotRead(const std::string& name) {
  return absl::InvalidArgumentError(absl::StrCat("cannot read ", name));
}

// istream::read turns an error of the file into badbit; an istreambuf_iterator would throw it.
absl::StatusOr<std::string> ReadAll(std::istream& input, const std::string& name) {
  std::string text;
  size_t read = 0;
  do {
    text.resize(read + kPieceBytes);
    input.read(text.data() + read, kPieceBytes);
    read += static_cast<size_t>(input.gcount());
  } while (input);
  if (!input.eof() || input.bad()) return CannotRead(name);
  text.resize(read);
  return text;
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return ReadAll(file, path);
}

absl::StatusOr<std::string> ReadStandardInput() {
  const std::string name = "standard input";
  absl::StatusOr<std::string> text = ReadAll(std::cin, name);
  // cin stands on stdio, which keeps an error to itself.
  if (text.ok() && std::ferror(stdin) != 0) return CannotRead(name);
  return text;
}

}  // namespace tessera::coordinator
