#include "proto/flags/declare.h"

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace tessera::flags {
namespace {

constexpr size_t kNameColumns = 28;
constexpr size_t kHelpColumns = 72;

// Broken into lines; CLI11 indents them.
std::string Wrapped(absl::string_view text) {
  std::string wrapped;
  size_t column = 0;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    const bool fits = column == 0 || column + 1 + word.size() <= kHelpColumns;
    if (column > 0) wrapped += fits ? ' ' : '\n';
    column = fits && column > 0 ? column + 1 + word.size() : word.size();
    wrapped.append(word.data(), word.size());
  }
  return wrapped;
}

// "--port 0 .. 65535 (=8000)"; CLI11's own lines also tell environment names.
class PlainFormatter : public CLI::Formatter {
 public:
  PlainFormatter() { column_width(kNameColumns); }
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    return absl::StrReplaceAll(Formatter::make_option_name(option, positional),
                               {{"{false}", ""}});
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    return Wrapped(option->get_description());
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_items_expected_max() == 0) return "";
    const std::string standard = option->get_default_str();
    return absl::StrCat(" ", option->get_type_name(),
                        standard.empty() ? "" : absl::StrCat(" (=", standard, ")"));
  }
};

}  // namespace

namespace internal {

std::string HelpOf(const Flag& flag) {
  if (flag.otherwise.empty()) return std::string(flag.help);
  return absl::StrCat(flag.help, " (default: ", flag.otherwise, ")");
}

void Finish(CLI::Option& option, const Flag& flag, absl::string_view otherwise) {
  if (option.get_items_expected_max() != 0) {
    const std::string value = ValueText(flag);
    option.type_name(value.empty() ? std::string(otherwise) : value);
  }
  if (flag.environment && absl::StrContains(flag.name, "--")) {
    option.envname(EnvironmentName(flag.name));
  }
}

CLI::Validator ChoiceCheck(const Flag& flag) {
  std::vector<std::string> choices(flag.choices.begin(), flag.choices.end());
  const std::string expected = ValueText(flag);
  const auto mistake = [choices, expected](const std::string& text) -> std::string {
    for (const std::string& choice : choices) {
      if (text == choice) return "";
    }
    return absl::StrCat("expected ", expected, ", got ", text);
  };
  return CLI::Validator(mistake, "");
}

}  // namespace internal

CLI::Option* DeclareSwitchWith(CLI::App& app, const Flag& flag,
                               const std::function<void(bool)>& take) {
  // "false" counts -1.
  const std::function<void(int64_t)> count = [take](int64_t times) { take(times > 0); };
  CLI::Option* option =
      app.add_flag_function(std::string(flag.name), count, internal::HelpOf(flag));
  internal::Finish(*option, flag);
  return option;
}

CLI::Option* DeclareBytes(CLI::App& app, const Flag& flag, int64_t& value) {
  CLI::Option* option = app.add_option(std::string(flag.name), value, internal::HelpOf(flag));
  internal::Finish(*option, flag, "bytes");
  CLI::Validator size = CLI::AsSizeValue(/*kb_is_1000=*/true);
  return option->transform(size.description(""));
}

CLI::Option* DeclareSeconds(CLI::App& app, const Flag& flag, absl::Duration& value) {
  Flag in_seconds = flag;
  in_seconds.unit = "seconds";
  CLI::Option* option = DeclareWith<double>(
      app, in_seconds, [&value](const double& seconds) { value = absl::Seconds(seconds); });
  if (flag.otherwise.empty()) option->default_str(absl::StrCat(absl::ToDoubleSeconds(value)));
  return option;
}

void UsePlainHelp(CLI::App& app) { app.formatter(std::make_shared<PlainFormatter>()); }

std::string MistakeText(const CLI::ParseError& error) {
  // CLI11: "--port: 1 required 0 .. 65535 missing".
  if (error.get_name() != "ArgumentMismatch") return error.what();
  return absl::StrReplaceAll(error.what(),
                             {{": 1 required ", ": expected "}, {" missing", ", got nothing"}});
}

}  // namespace tessera::flags
