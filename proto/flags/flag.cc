#include "proto/flags/flag.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace tessera::flags {
namespace {

std::string ChoicesText(absl::Span<const absl::string_view> choices) {
  const size_t last = choices.size() - 1;
  if (last == 0) return std::string(choices[0]);
  return absl::StrCat(absl::StrJoin(choices.subspan(0, last), ", "), " or ", choices[last]);
}

}  // namespace

std::string EnvironmentName(absl::string_view name) {
  name.remove_prefix(name.find("--") + 2);
  name = name.substr(0, name.find(','));
  return absl::StrCat("TESSERA_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

std::string ValueText(const Flag& flag) {
  const std::string unit = flag.unit.empty() ? "" : absl::StrCat(" ", flag.unit);
  if (!flag.choices.empty()) return ChoicesText(flag.choices);
  if (flag.range) return absl::StrCat(RangeText(*flag.range), unit);
  return std::string(flag.value.empty() ? flag.unit : flag.value);
}

}  // namespace tessera::flags
