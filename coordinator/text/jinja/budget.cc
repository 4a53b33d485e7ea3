#include "coordinator/text/jinja/budget.h"

#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

// A list's item and the string it may hold, roughly.
constexpr size_t kItemBytes = 64;

absl::Status Spent(absl::string_view what, size_t limit) {
  return absl::InvalidArgumentError(absl::StrCat("it ran past its bound of ", limit, " ", what));
}

}  // namespace

absl::Status JinjaBudget::Steps(size_t count) {
  if (count > left_.steps) return Spent("steps", limits_.steps);
  left_.steps -= count;
  return absl::OkStatus();
}

absl::Status JinjaBudget::Bytes(size_t count) {
  if (count > limits_.text_bytes) return Spent("bytes in one text", limits_.text_bytes);
  if (count > left_.bytes) return Spent("bytes of text made", limits_.bytes);
  left_.bytes -= count;
  return absl::OkStatus();
}

absl::Status JinjaBudget::Items(size_t count) {
  if (count > left_.bytes / kItemBytes) return Spent("bytes of values made", limits_.bytes);
  left_.bytes -= count * kItemBytes;
  return absl::OkStatus();
}

absl::Status JinjaBudget::Enter() {
  if (left_.nesting == 0) {
    return Spent("levels of nesting", static_cast<size_t>(limits_.nesting));
  }
  --left_.nesting;
  return absl::OkStatus();
}

}  // namespace tessera::coordinator
