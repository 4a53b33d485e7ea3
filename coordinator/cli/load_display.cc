#include "coordinator/cli/load_display.h"

#include "absl/strings/str_cat.h"
#include "coordinator/cli/terminal.h"

namespace tessera::coordinator {
namespace {

constexpr int kBarWidth = 32;
constexpr char kEraseLine[] = "\r\033[K";

}  // namespace

void LoadDisplay::Update(const LoadProgress& progress) {
  if (progress.bytes_total <= 0) return;
  if (terminal_) {
    std::string bar = absl::StrCat(
        "loading ", FormatProgress(progress.bytes_loaded, progress.bytes_total, kBarWidth));
    if (bar == shown_) return;
    out_ << kEraseLine << bar << std::flush;
    shown_ = std::move(bar);
    return;
  }
  const int quarters = static_cast<int>(progress.bytes_loaded * 4 / progress.bytes_total);
  if (quarters <= quarters_shown_) return;
  quarters_shown_ = quarters;
  out_ << "loading: " << quarters * 25 << "% of " << Megabytes(progress.bytes_total) << " MB"
       << std::endl;
}

void LoadDisplay::End() {
  if (!shown_.empty()) out_ << kEraseLine << std::flush;
  shown_.clear();
  quarters_shown_ = 0;
}

}  // namespace tessera::coordinator
