#include "coordinator/grammar/string_formats.h"

#include "absl/strings/str_cat.h"

namespace tessera::coordinator::grammar {
namespace {

// Years 0001 .. 9999. A year that 4 divides is a leap year, but for centuries that 400 does not.
std::string Date() {
  const std::string year = "(\\d{3}[1-9]|\\d{2}[1-9]0|\\d[1-9]00|[1-9]000)";
  const std::string leap_year =
      "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)";
  const std::string day_of_month =
      "((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|"
      "02-(0[1-9]|1\\d|2[0-8]))";
  return absl::StrCat("(", year, "-", day_of_month, "|", leap_year, "-02-29)");
}

// RFC 3339, without leap seconds.
std::string Time() {
  return "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
}

std::string Ipv4() {
  const std::string byte = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  return absl::StrCat(byte, "(\\.", byte, "){3}");
}

std::string Uuid() {
  return "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
}

std::string Email() {
  const std::string atom = "[a-zA-Z0-9_+-]{1,16}";
  const std::string label = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?";
  return absl::StrCat(atom, "(\\.", atom, "){0,2}@", label, "(\\.", label, "){1,4}");
}

}  // namespace

std::optional<std::string> RegexOfFormat(absl::string_view format) {
  if (format == "date") return Date();
  if (format == "time") return Time();
  if (format == "date-time") return absl::StrCat(Date(), "T", Time());
  if (format == "uuid") return Uuid();
  if (format == "email") return Email();
  if (format == "ipv4") return Ipv4();
  return std::nullopt;
}

}  // namespace tessera::coordinator::grammar
