// Declared flags become options of CLI11. What a variable holds before is the flag's default, so
// that it stands in one place: the initialiser in its options struct.
//
//   CLI::App app("What it does", "program");
//   UsePlainHelp(app);
//   Declare(app, {.name = "--port", .help = "HTTP", .range = kPorts}, options.port);
//   DeclareSeconds(app, {.name = "--wait", .help = "For a group", .range = kDay}, options.wait);
//   try { app.parse(argc, argv); } catch (const CLI::ParseError& error) { ... MistakeText(error) }
#ifndef TESSERA_PROTO_FLAGS_DECLARE_H_
#define TESSERA_PROTO_FLAGS_DECLARE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/flags/flag.h"

namespace tessera::flags {
namespace internal {

template <typename Value>
struct ItemOf {
  using Type = Value;
};
template <typename Value>
struct ItemOf<std::optional<Value>> {
  using Type = Value;
};
template <typename Value>
struct ItemOf<std::vector<Value>> {
  using Type = Value;
};

// What every option has: what it takes, and its environment name. `otherwise`: what it takes where
// the flag does not say.
void Finish(CLI::Option& option, const Flag& flag, absl::string_view otherwise = "");

std::string HelpOf(const Flag& flag);

// Refuses texts that are no number of this type, and numbers out of the flag's range.
template <typename Number>
CLI::Validator NumberCheck(const Flag& flag) {
  const std::string expected = flag.range ? ValueText(flag) : "a number";
  const auto mistake = [range = flag.range, expected](const std::string& text) -> std::string {
    Number number = {};
    const bool fits = CLI::detail::lexical_cast(text, number);
    if (fits && (!range || range->Contains(static_cast<double>(number)))) return "";
    return "expected " + expected + ", got " + text;
  };
  return CLI::Validator(mistake, "");
}

// Refuses words that are none of the flag's choices.
CLI::Validator ChoiceCheck(const Flag& flag);

}  // namespace internal

// `value` is a bool, a number, a string, an optional of one of these, or a vector: then the flag may
// be given several times. Only the flag's choices stay borrowed.
template <typename Value>
CLI::Option* Declare(CLI::App& app, const Flag& flag, Value& value) {
  using Item = typename internal::ItemOf<Value>::Type;
  const std::string name(flag.name);
  std::string help = internal::HelpOf(flag);
  if constexpr (std::is_same_v<Value, bool>) {
    if (value) help += " (default: on)";
    CLI::Option* option = app.add_flag(name, value, help);
    internal::Finish(*option, flag);
    return option;
  } else {
    CLI::Option* option = app.add_option(name, value, help);
    internal::Finish(*option, flag, std::is_arithmetic_v<Item> ? "NUMBER" : "TEXT");
    if constexpr (std::is_arithmetic_v<Item>) option->check(internal::NumberCheck<Item>(flag));
    if (!flag.choices.empty() && flag.choices_checked) option->check(internal::ChoiceCheck(flag));
    if constexpr (std::is_same_v<Item, Value>) {
      if (flag.otherwise.empty()) option->capture_default_str();
    } else if constexpr (std::is_same_v<Value, std::vector<Item>>) {
      option->allow_extra_args(false);
    }
    return option;
  }
}

// As Declare, for what has no variable: `take` gets what was given, and is not called for less.
template <typename Value>
CLI::Option* DeclareWith(CLI::App& app, const Flag& flag,
                         const std::function<void(const Value&)>& take) {
  using Item = typename internal::ItemOf<Value>::Type;
  CLI::Option* option =
      app.add_option_function<Value>(std::string(flag.name), take, internal::HelpOf(flag));
  internal::Finish(*option, flag, std::is_arithmetic_v<Item> ? "NUMBER" : "TEXT");
  if constexpr (std::is_arithmetic_v<Item>) option->check(internal::NumberCheck<Item>(flag));
  if (!flag.choices.empty()) option->check(internal::ChoiceCheck(flag));
  if constexpr (!std::is_same_v<Item, Value>) option->allow_extra_args(false);
  return option;
}

CLI::Option* DeclareSwitchWith(CLI::App& app, const Flag& flag,
                               const std::function<void(bool)>& take);

// A number of bytes, which may be written with a unit: 512MB, 2GiB.
CLI::Option* DeclareBytes(CLI::App& app, const Flag& flag, int64_t& value);

// A duration, written in seconds.
CLI::Option* DeclareSeconds(CLI::App& app, const Flag& flag, absl::Duration& value);

// One of some words, each with its value; they are the flag's choices.
template <typename Value>
using Words = std::vector<std::pair<absl::string_view, Value>>;

template <typename Value>
CLI::Option* DeclareWords(CLI::App& app, Flag flag, const Words<Value>& words, Value& value) {
  std::vector<absl::string_view> names;
  std::string standard;
  for (const auto& [name, meaning] : words) {
    names.push_back(name);
    if (meaning == value) standard = std::string(name);
  }
  flag.choices = names;
  CLI::Option* option =
      DeclareWith<std::string>(app, flag, [words, &value](const std::string& text) {
        for (const auto& [name, meaning] : words) {
          if (name == text) value = meaning;
        }
      });
  if (flag.otherwise.empty()) option->default_str(standard);
  return option;
}

// Names, values and defaults; environment names are in deploy/flags.md. Subcommands inherit it.
void UsePlainHelp(CLI::App& app);

// What the command line's author did wrong, in one line that names the flag.
std::string MistakeText(const CLI::ParseError& error);

}  // namespace tessera::flags

#endif  // TESSERA_PROTO_FLAGS_DECLARE_H_
