// What people see: colors only where they belong, aligned tables, a progress bar, sizes and times
// in units people read. Everything returns strings or writes to the stream it is given.
//
//   const Style style = StyleFor(STDERR_FILENO);
//   std::cerr << style.Dim("TTFT 41 ms") << "\n";
#ifndef TESSERA_COORDINATOR_CLI_TERMINAL_H_
#define TESSERA_COORDINATOR_CLI_TERMINAL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator {

// ANSI attributes, or nothing at all.
class Style {
 public:
  explicit Style(bool colors) : colors_(colors) {}
  std::string Bold(absl::string_view text) const { return Wrap("1", text); }
  std::string Dim(absl::string_view text) const { return Wrap("2", text); }
  std::string Red(absl::string_view text) const { return Wrap("31", text); }
  std::string Green(absl::string_view text) const { return Wrap("32", text); }
  std::string Yellow(absl::string_view text) const { return Wrap("33", text); }
  std::string Cyan(absl::string_view text) const { return Wrap("36", text); }

 private:
  std::string Wrap(absl::string_view code, absl::string_view text) const;
  bool colors_;
};

bool IsTerminal(int fd);
// Colors on a terminal, unless NO_COLOR is set or TERM is "dumb".
Style StyleFor(int fd);

// Right-aligned columns, two spaces apart; the first row holds the titles.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

std::string Megabytes(int64_t bytes);  // "96.3"
// "[=======>      ]  54%  52.1 of 96.3 MB", `width` cells of bar.
std::string FormatProgress(int64_t done, int64_t total, int width);

// "error: <message>" in one line on stderr.
void PrintError(absl::string_view message);
// The same; returns the exit code that a failed command gives: 1.
int ExitWith(const absl::Status& status);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_TERMINAL_H_
