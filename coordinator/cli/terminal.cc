#include "coordinator/cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace tessera::coordinator {

std::string Style::Wrap(absl::string_view code, absl::string_view text) const {
  if (!colors_) return std::string(text);
  return absl::StrCat("\033[", code, "m", text, "\033[0m");
}

bool IsTerminal(int fd) { return isatty(fd) == 1; }

Style StyleFor(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool refused = no_color != nullptr && *no_color != '\0';
  const bool dumb = term == nullptr || std::string(term) == "dumb";
  return Style(IsTerminal(fd) && !refused && !dumb);
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppendFormat(&text, "%s%*s", i == 0 ? "" : "  ", static_cast<int>(widths[i]),
                            row[i]);
    }
    text += "\n";
  }
  return text;
}

std::string Megabytes(int64_t bytes) {
  return absl::StrFormat("%.1f", static_cast<double>(bytes) / 1e6);
}

std::string FormatProgress(int64_t done, int64_t total, int width) {
  const double share = total > 0 ? std::clamp(static_cast<double>(done) / total, 0.0, 1.0) : 0.0;
  const int filled = static_cast<int>(share * width);
  std::string bar(static_cast<size_t>(filled), '=');
  if (filled < width) bar += '>';
  bar.resize(static_cast<size_t>(width), ' ');
  return absl::StrFormat("[%s] %3d%%  %s of %s MB", bar, static_cast<int>(share * 100),
                         Megabytes(done), Megabytes(total));
}

void PrintError(absl::string_view message) {
  // One line, whatever a peer put into its message.
  const std::string line = absl::StrReplaceAll(message, {{"\n", " "}, {"\r", " "}});
  std::cerr << StyleFor(STDERR_FILENO).Red("error:") << " " << line << std::endl;
}

int ExitWith(const absl::Status& status) {
  PrintError(status.message());
  return 1;
}

}  // namespace tessera::coordinator
