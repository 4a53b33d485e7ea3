// Methods of strings, lists and dicts, as Python has them; none that changes its subject.
#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/print.h"
#include "coordinator/text/jinja/text.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Value = JinjaValue;
using Result = absl::StatusOr<Value>;

constexpr std::array<absl::string_view, 29> kTextMethods = {
    "split",      "rsplit",    "splitlines",   "strip",        "lstrip",   "rstrip",
    "startswith", "endswith",  "replace",      "upper",        "lower",    "title",
    "capitalize", "find",      "rfind",        "count",        "index",    "join",
    "isdigit",    "isalpha",   "isalnum",      "isspace",      "isupper",  "islower",
    "isnumeric",  "isdecimal", "removeprefix", "removesuffix", "partition"};
constexpr std::array<absl::string_view, 2> kListMethods = {"index", "count"};
constexpr std::array<absl::string_view, 4> kDictMethods = {"items", "keys", "values", "get"};
constexpr std::array<absl::string_view, 1> kLoopMethods = {"cycle"};

template <typename Names>
bool Has(const Names& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status WrongArgument(absl::string_view method, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(method, "() expects ", expected));
}

Result Texts(std::vector<ChatPrompt> parts, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(budget.Items(parts.size()));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (ChatPrompt& part : parts) items.push_back(Value::Of(std::move(part)));
  return JinjaList::Make(std::move(items));
}

Result Split(absl::string_view name, const ChatPrompt& text, const JinjaArguments& arguments,
             JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"sep", "maxsplit"}));
  const Value* separator = arguments.Get(0, "sep");
  const Value* most = arguments.Get(1, "maxsplit");
  TextSplitOptions options{.from_right = name == "rsplit"};
  if (most != nullptr && !JinjaInteger(*most, &options.most)) {
    return WrongArgument(name, "an integer for maxsplit");
  }
  size_t parts = text.text().size() / 2 + 1;
  if (separator != nullptr && !separator->IsNone()) {
    if (separator->text() == nullptr || separator->text()->text().empty()) {
      return WrongArgument(name, "a separator that is not empty");
    }
    options.separator = separator->text()->text();
    parts = CountOccurrences(text.text(), *options.separator) + 1;
  } else if (options.from_right && options.most >= 0) {
    return WrongArgument(name, "a separator");
  }
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text.text().size()));
  if (options.most < 0) TESSERA_RETURN_IF_ERROR(budget.Items(parts));
  return Texts(TextSplit(text, options), budget);
}

Result Strip(absl::string_view name, const ChatPrompt& text, const JinjaArguments& arguments) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"chars"}));
  const Value* given = arguments.Get(0, "chars");
  std::optional<absl::string_view> characters;
  if (given != nullptr && !given->IsNone()) {
    if (given->text() == nullptr) return WrongArgument(name, "a string of characters");
    characters = given->text()->text();
  }
  const TextEnds ends = name == "lstrip"   ? TextEnds::kLeft
                        : name == "rstrip" ? TextEnds::kRight
                                           : TextEnds::kBoth;
  return Value::Of(TextStrip(text, ends, characters));
}

// startswith, endswith: of one string or of any in a tuple.
Result HasAffix(absl::string_view name, absl::string_view text, const JinjaArguments& arguments) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"affix"}));
  const Value* affix = arguments.Get(0, "affix");
  const auto fits = [&](const Value& part) {
    if (part.text() == nullptr) return false;
    const absl::string_view words = part.text()->text();
    return name == "startswith" ? absl::StartsWith(text, words) : absl::EndsWith(text, words);
  };
  if (affix != nullptr && affix->text() != nullptr) return Value(fits(*affix));
  if (affix == nullptr || affix->list() == nullptr || !affix->list()->is_tuple) {
    return WrongArgument(name, "a string or a tuple of strings");
  }
  const auto& parts = affix->list()->items;
  return Value(std::any_of(parts.begin(), parts.end(), fits));
}

Result WithoutAffix(absl::string_view name, const ChatPrompt& text,
                    const JinjaArguments& arguments) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"affix"}));
  const Value* affix = arguments.Get(0, "affix");
  if (affix == nullptr || affix->text() == nullptr) return WrongArgument(name, "a string");
  const absl::string_view words = affix->text()->text(), all = text.text();
  if (name == "removeprefix") {
    return Value::Of(TextSlice(text, absl::StartsWith(all, words) ? words.size() : 0, all.size()));
  }
  return Value::Of(
      TextSlice(text, 0, all.size() - (absl::EndsWith(all, words) ? words.size() : 0)));
}

Result Replace(const ChatPrompt& text, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"old", "new", "count"}));
  const Value* from = arguments.Get(0, "old");
  const Value* to = arguments.Get(1, "new");
  const Value* count = arguments.Get(2, "count");
  int64_t most = -1;
  if (from == nullptr || to == nullptr || from->text() == nullptr || to->text() == nullptr ||
      (count != nullptr && !JinjaInteger(*count, &most))) {
    return WrongArgument("replace", "two strings, and maybe a count");
  }
  return ApplyJinjaFilter("replace", Value::Of(text), {{*from, *to, Value(most)}, {}}, budget);
}

// Characters before byte `pos`.
int64_t CharactersBefore(absl::string_view text, size_t pos) {
  return static_cast<int64_t>(CharacterCount(text.substr(0, pos)));
}

Result Find(absl::string_view name, absl::string_view text, const JinjaArguments& arguments) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"sub"}));
  const Value* part = arguments.Get(0, "sub");
  if (part == nullptr || part->text() == nullptr) return WrongArgument(name, "one string");
  const absl::string_view words = part->text()->text();
  if (name == "count") return Value(static_cast<int64_t>(CountOccurrences(text, words)));
  const size_t found = name == "rfind" ? text.rfind(words) : text.find(words);
  if (found != text.npos) return Value(CharactersBefore(text, found));
  if (name == "index") return absl::InvalidArgumentError("index(): substring not found");
  return Value(int64_t{-1});
}

Result Partition(const ChatPrompt& text, const JinjaArguments& arguments) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"sep"}));
  const Value* separator = arguments.Get(0, "sep");
  if (separator == nullptr || separator->text() == nullptr || !separator->IsTrue()) {
    return WrongArgument("partition", "a separator that is not empty");
  }
  const size_t at = text.text().find(separator->text()->text());
  const size_t size = text.text().size();
  const size_t length = at == std::string::npos ? 0 : separator->text()->text().size();
  const size_t begin = std::min(at, size);
  return JinjaList::Make(
      {Value::Of(TextSlice(text, 0, begin)), Value::Of(TextSlice(text, begin, begin + length)),
       Value::Of(TextSlice(text, begin + length, size))},
      /*is_tuple=*/true);
}

Result TextCaseOrClass(absl::string_view name, const ChatPrompt& text) {
  const absl::string_view all = text.text();
  if (name == "upper") return Value::Of(TextToCase(text, TextCase::kUpper));
  if (name == "lower") return Value::Of(TextToCase(text, TextCase::kLower));
  if (name == "title") return Value::Of(TextToCase(text, TextCase::kTitle));
  if (name == "capitalize") return Value::Of(TextToCase(text, TextCase::kCapitalize));
  if (name == "isalpha") return Value(TextIs(all, TextClass::kAlpha));
  if (name == "isalnum") return Value(TextIs(all, TextClass::kAlphanumeric));
  if (name == "isspace") return Value(TextIs(all, TextClass::kSpace));
  if (name == "isupper") return Value(TextIs(all, TextClass::kUpper));
  if (name == "islower") return Value(TextIs(all, TextClass::kLower));
  return Value(TextIs(all, TextClass::kDigit));  // isdigit, isnumeric, isdecimal
}

Result CallTextMethod(absl::string_view name, const Value& subject, const JinjaArguments& arguments,
                      JinjaBudget& budget) {
  const ChatPrompt& text = *subject.text();
  if (name == "split" || name == "rsplit") return Split(name, text, arguments, budget);
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text.text().size()));
  if (name == "splitlines") {
    TESSERA_RETURN_IF_ERROR(arguments.Check({"keepends"}));
    const Value* keep = arguments.Get(0, "keepends");
    const size_t lines = static_cast<size_t>(std::count_if(
        text.text().begin(), text.text().end(), [](char c) { return c == '\n' || c == '\r'; }));
    TESSERA_RETURN_IF_ERROR(budget.Items(lines + 1));
    return Texts(TextLines(text, keep != nullptr && keep->IsTrue()), budget);
  }
  if (absl::EndsWith(name, "strip")) return Strip(name, text, arguments);
  if (name == "startswith" || name == "endswith") return HasAffix(name, text.text(), arguments);
  if (absl::StartsWith(name, "remove")) return WithoutAffix(name, text, arguments);
  if (name == "replace") return Replace(text, arguments, budget);
  if (name == "partition") return Partition(text, arguments);
  if (name == "join") {
    TESSERA_RETURN_IF_ERROR(arguments.Check({"iterable"}));
    const Value* parts = arguments.Get(0, "iterable");
    if (parts == nullptr) return WrongArgument(name, "an iterable");
    return ApplyJinjaFilter("join", *parts, {{subject}, {}}, budget);
  }
  if (name == "find" || name == "rfind" || name == "count" || name == "index") {
    return Find(name, text.text(), arguments);
  }
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  return TextCaseOrClass(name, text);
}

Result CallListMethod(absl::string_view name, const JinjaList& list,
                      const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"value"}));
  const Value* wanted = arguments.Get(0, "value");
  if (wanted == nullptr) return WrongArgument(name, "a value");
  TESSERA_RETURN_IF_ERROR(budget.Steps(list.nodes));
  const auto equals = [&](const Value& item) { return JinjaEqual(item, *wanted); };
  if (name == "count") {
    return Value(static_cast<int64_t>(std::count_if(list.items.begin(), list.items.end(), equals)));
  }
  const auto found = std::find_if(list.items.begin(), list.items.end(), equals);
  if (found == list.items.end()) return absl::InvalidArgumentError("index(): not in the list");
  return Value(static_cast<int64_t>(found - list.items.begin()));
}

Result CallDictMethod(absl::string_view name, const JinjaDict& dict,
                      const JinjaArguments& arguments, JinjaBudget& budget) {
  if (name == "get") {
    TESSERA_RETURN_IF_ERROR(arguments.Check({"key", "default"}));
    const Value* key = arguments.Get(0, "key");
    const Value* otherwise = arguments.Get(1, "default");
    if (key == nullptr) return WrongArgument(name, "a key");
    if (const Value* found = dict.Find(*key)) return *found;
    return otherwise == nullptr ? Value(Value::None{}) : *otherwise;
  }
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_RETURN_IF_ERROR(budget.Items(dict.entries().size() * 2));
  std::vector<Value> items;
  items.reserve(dict.entries().size());
  for (const JinjaDict::Entry& entry : dict.entries()) {
    if (name == "items") {
      TESSERA_ASSIGN_OR_RETURN(Value pair, JinjaList::Make({entry.key, entry.value}, true));
      items.push_back(std::move(pair));
    } else {
      items.push_back(name == "keys" ? entry.key : entry.value);
    }
  }
  return JinjaList::Make(std::move(items));
}

}  // namespace

bool IsJinjaMethod(absl::string_view name) {
  return Has(kTextMethods, name) || Has(kListMethods, name) || Has(kDictMethods, name) ||
         Has(kLoopMethods, name);
}

bool HasJinjaMethod(absl::string_view name, const JinjaValue& subject) {
  if (subject.text() != nullptr) return Has(kTextMethods, name);
  if (subject.list() != nullptr) return Has(kListMethods, name);
  return subject.dict() != nullptr ? Has(kDictMethods, name)
                                   : subject.Is<Value::Loop>() && Has(kLoopMethods, name);
}

absl::StatusOr<JinjaValue> CallJinjaMethod(absl::string_view name, const JinjaValue& subject,
                                           const JinjaArguments& arguments, JinjaBudget& budget) {
  if (!HasJinjaMethod(name, subject)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", subject.TypeName(), "' has no method '", name, "'"));
  }
  if (subject.text() != nullptr) return CallTextMethod(name, subject, arguments, budget);
  if (subject.list() != nullptr) return CallListMethod(name, *subject.list(), arguments, budget);
  if (subject.dict() != nullptr) return CallDictMethod(name, *subject.dict(), arguments, budget);
  // loop.cycle
  if (arguments.values.empty()) return WrongArgument(name, "at least one value");
  return arguments.values[(*subject.As<Value::Loop>())->index0 % arguments.values.size()];
}

}  // namespace tessera::coordinator
