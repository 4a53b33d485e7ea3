// Jinja's filters on single values: text, numbers, JSON. Those that run over items are in
// jinja_item_filters.cc.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/item_filters.h"
#include "coordinator/text/jinja/operators.h"
#include "coordinator/text/jinja/print.h"
#include "coordinator/text/jinja/text.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Value = JinjaValue;
using Result = absl::StatusOr<Value>;

absl::Status WrongArgument(absl::string_view filter, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("the filter '", filter, "' expects ", expected));
}

// str() of what is filtered, its copy charged.
absl::StatusOr<ChatPrompt> TextOf(const Value& subject, JinjaBudget& budget) {
  if (subject.text() != nullptr) {
    TESSERA_RETURN_IF_ERROR(budget.Bytes(subject.text()->text().size()));
  }
  return JinjaStr(subject, budget);
}

Result Trim(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"chars"}));
  const Value* given = arguments.Get(0, "chars");
  std::optional<absl::string_view> characters;
  if (given != nullptr && given->text() != nullptr) characters = given->text()->text();
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt text, TextOf(subject, budget));
  return Value::Of(TextStrip(text, TextEnds::kBoth, characters));
}

template <TextCase style>
Result ToCase(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt text, TextOf(subject, budget));
  return Value::Of(TextToCase(text, style));
}

Result Replace(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"old", "new", "count"}));
  const Value* old_words = arguments.Get(0, "old");
  const Value* new_words = arguments.Get(1, "new");
  const Value* count = arguments.Get(2, "count");
  int64_t most = -1;
  if (old_words == nullptr || new_words == nullptr ||
      (count != nullptr && !count->IsNone() && !JinjaInteger(*count, &most))) {
    return WrongArgument("replace", "what to replace and what with");
  }
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt text, TextOf(subject, budget));
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt from, TextOf(*old_words, budget));
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt to, TextOf(*new_words, budget));
  const size_t found = CountOccurrences(text.text(), from.text());
  size_t added = 0;
  if (__builtin_mul_overflow(found, to.text().size(), &added)) added = SIZE_MAX / 2;
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text.text().size() + added));
  return Value::Of(TextReplace(text, from.text(), to, most));
}

Result ToString(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_ASSIGN_OR_RETURN(ChatPrompt text, TextOf(subject, budget));
  return Value::Of(std::move(text));
}

Result Safe(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  return ToString(subject, arguments, budget);
}

Result Escape(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_ASSIGN_OR_RETURN(Value text, ToString(subject, arguments, budget));
  for (const auto& [from, to] : {std::pair<absl::string_view, absl::string_view>{"&", "&amp;"},
                                 {"<", "&lt;"},
                                 {">", "&gt;"},
                                 {"'", "&#39;"},
                                 {"\"", "&#34;"}}) {
    // What stands for people's characters is theirs as well.
    ChatPrompt escaped;
    const ChatPrompt& all = *text.text();
    size_t begin = 0;
    for (size_t at; (at = all.text().find(from.data(), begin, 1)) != std::string::npos;) {
      escaped.AppendSlice(all, begin, at);
      const ChatPrompt entity = all.IsContent(at) ? std::move(ChatPrompt().Content(to))
                                                  : std::move(ChatPrompt().Literal(to));
      escaped.AppendSlice(entity, 0, to.size());
      begin = at + 1;
    }
    escaped.AppendSlice(all, begin, all.text().size());
    TESSERA_RETURN_IF_ERROR(budget.Bytes(escaped.text().size()));
    text = Value::Of(std::move(escaped));
  }
  return text;
}

Result Indent(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"width", "first", "blank"}));
  const Value* width = arguments.Get(0, "width");
  const Value* first = arguments.Get(1, "first");
  const Value* blank = arguments.Get(2, "blank");
  ChatPrompt indent;
  int64_t spaces = 4;
  if (width != nullptr && width->text() != nullptr) {
    indent = *width->text();
  } else if (width != nullptr && !JinjaInteger(*width, &spaces)) {
    return WrongArgument("indent", "a width");
  } else {
    if (spaces < 0 || spaces > 1000) return WrongArgument("indent", "a width of 0 .. 1000");
    indent.Literal(std::string(static_cast<size_t>(spaces), ' '));
  }
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt text, TextOf(subject, budget));
  const auto lines = static_cast<size_t>(std::count(text.text().begin(), text.text().end(), '\n'));
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text.text().size() + (lines + 2) * indent.text().size()));
  TESSERA_RETURN_IF_ERROR(budget.Items(lines));
  ChatPrompt out;
  const std::vector<ChatPrompt> parts = TextSplit(text, {.separator = "\n"});
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out.Literal("\n");
    const bool is_indented = i == 0 ? first != nullptr && first->IsTrue()
                                    : !parts[i].text().empty() || (blank && blank->IsTrue());
    if (is_indented) out.AppendSlice(indent, 0, indent.text().size());
    out.AppendSlice(parts[i], 0, parts[i].text().size());
  }
  return Value::Of(std::move(out));
}

Result ToJson(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  const Value* ascii = arguments.Get(0, "ensure_ascii");
  const Value* indent = arguments.Get(1, "indent");
  const Value* separators = arguments.Get(2, "separators");
  const Value* sorts = arguments.Get(3, "sort_keys");
  style.ascii_only = ascii != nullptr && ascii->IsTrue();
  style.sorts_keys = sorts != nullptr && sorts->IsTrue();
  if (indent != nullptr && !indent->IsNone()) {
    int64_t spaces = 0;
    if (indent->text() != nullptr) {
      style.indent = indent->text()->text();
    } else if (!JinjaInteger(*indent, &spaces) || spaces > 100) {
      return WrongArgument("tojson", "an indent of at most 100");
    } else {
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
    }
    style.item_separator = std::string(1, ',');
  }
  if (separators != nullptr && !separators->IsNone()) {
    const JinjaList* pair = separators->list();
    if (pair == nullptr || pair->items.size() != 2 || pair->items[0].text() == nullptr ||
        pair->items[1].text() == nullptr) {
      return WrongArgument("tojson", "two separators");
    }
    style.item_separator = pair->items[0].text()->text();
    style.key_separator = pair->items[1].text()->text();
  }
  TESSERA_ASSIGN_OR_RETURN(ChatPrompt json, JinjaToJson(subject, style, budget));
  return Value::Of(std::move(json));
}

Result Default(const Value& subject, const JinjaArguments& arguments, JinjaBudget&) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"default_value", "boolean"}));
  const Value* otherwise = arguments.Get(0, "default_value");
  const Value* by_truth = arguments.Get(1, "boolean");
  const bool is_missing =
      subject.IsUndefined() || (by_truth != nullptr && by_truth->IsTrue() && !subject.IsTrue());
  if (!is_missing) return subject;
  return otherwise == nullptr ? Value::Literal("") : *otherwise;
}

Result ToInt(const Value& subject, const JinjaArguments& arguments, JinjaBudget&) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"default"}));
  const Value* otherwise = arguments.Get(0, "default");
  int64_t integer = 0;
  double real = 0;
  if (JinjaInteger(subject, &integer)) return Value(integer);
  const bool is_number =
      JinjaNumber(subject, &real) ||
      (subject.text() != nullptr && absl::SimpleAtod(subject.text()->text(), &real));
  if (subject.text() != nullptr && absl::SimpleAtoi(subject.text()->text(), &integer)) {
    return Value(integer);
  }
  constexpr double kMost = 9.2e18;
  if (is_number && std::abs(real) < kMost) return Value(static_cast<int64_t>(real));
  return otherwise == nullptr ? Value(int64_t{0}) : *otherwise;
}

Result ToFloat(const Value& subject, const JinjaArguments& arguments, JinjaBudget&) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"default"}));
  const Value* otherwise = arguments.Get(0, "default");
  double real = 0;
  if (JinjaNumber(subject, &real) ||
      (subject.text() != nullptr && absl::SimpleAtod(subject.text()->text(), &real))) {
    return Value(JinjaReal{real});
  }
  return otherwise == nullptr ? Value(JinjaReal{0}) : *otherwise;
}

Result Round(const Value& subject, const JinjaArguments& arguments, JinjaBudget&) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"precision", "method"}));
  const Value* precision = arguments.Get(0, "precision");
  const Value* method = arguments.Get(1, "method");
  int64_t digits = 0;
  double real = 0;
  if (!JinjaNumber(subject, &real) ||
      (precision != nullptr && !JinjaInteger(*precision, &digits)) || std::abs(digits) > 15) {
    return WrongArgument("round", "a number, and a precision within 15");
  }
  const std::string name =
      method == nullptr || method->text() == nullptr ? "common" : method->text()->text();
  const double scale = std::pow(10.0, static_cast<double>(digits));
  if (name == "ceil") return Value(JinjaReal{std::ceil(real * scale) / scale});
  if (name == "floor") return Value(JinjaReal{std::floor(real * scale) / scale});
  // Half to even, as Python's round().
  int64_t integer = 0;
  if (JinjaInteger(subject, &integer) && digits >= 0) return subject;
  return Value(JinjaReal{std::nearbyint(real * scale) / scale});
}

Result Absolute(const Value& subject, const JinjaArguments& arguments, JinjaBudget&) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  double real = 0;
  if (!JinjaNumber(subject, &real)) return WrongArgument("abs", "a number");
  return real < 0 ? JinjaNegative(subject) : subject;
}

Result Length(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  size_t length = 0;
  if (const ChatPrompt* text = subject.text()) {
    TESSERA_RETURN_IF_ERROR(budget.Steps(text->text().size() / 64));
    length = CharacterCount(text->text());
  } else if (const JinjaList* list = subject.list()) {
    length = list->items.size();
  } else if (const JinjaDict* dict = subject.dict()) {
    length = dict->entries().size();
  } else if (!subject.IsUndefined()) {
    return absl::InvalidArgumentError(absl::StrCat("'", subject.TypeName(), "' has no length"));
  }
  return Value(static_cast<int64_t>(length));
}

struct Filter {
  absl::string_view name;
  JinjaFilter filter;
};

constexpr std::array<Filter, 21> kFilters = {{
    {"trim", Trim},
    {"upper", ToCase<TextCase::kUpper>},
    {"lower", ToCase<TextCase::kLower>},
    {"capitalize", ToCase<TextCase::kCapitalize>},
    {"title", ToCase<TextCase::kTitleWords>},
    {"replace", Replace},
    {"string", ToString},
    {"safe", Safe},
    {"escape", Escape},
    {"e", Escape},
    {"forceescape", Escape},
    {"indent", Indent},
    {"tojson", ToJson},
    {"default", Default},
    {"d", Default},
    {"int", ToInt},
    {"float", ToFloat},
    {"round", Round},
    {"abs", Absolute},
    {"length", Length},
    {"count", Length},
}};

JinjaFilter FindFilter(absl::string_view name) {
  const auto found = std::find_if(kFilters.begin(), kFilters.end(),
                                  [&](const Filter& filter) { return filter.name == name; });
  return found == kFilters.end() ? FindJinjaItemFilter(name) : found->filter;
}

}  // namespace

const JinjaValue* JinjaArguments::Get(size_t index, absl::string_view name) const {
  if (index < values.size()) return &values[index];
  for (const auto& [keyword, value] : keywords) {
    if (keyword == name) return &value;
  }
  return nullptr;
}

absl::Status JinjaArguments::Check(std::initializer_list<absl::string_view> names) const {
  if (values.size() > names.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", values.size(), " arguments; expected at most ", names.size()));
  }
  for (const auto& [keyword, value] : keywords) {
    if (std::find(names.begin(), names.end(), keyword) != names.end()) continue;
    return absl::InvalidArgumentError(absl::StrCat("has no argument ", Quoted(keyword)));
  }
  return absl::OkStatus();
}

bool IsJinjaFilter(absl::string_view name) { return FindFilter(name) != nullptr; }

absl::StatusOr<JinjaValue> ApplyJinjaFilter(absl::string_view name, const JinjaValue& subject,
                                            const JinjaArguments& arguments, JinjaBudget& budget) {
  const JinjaFilter filter = FindFilter(name);
  if (filter == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("there is no filter ", Quoted(name)));
  }
  return filter(subject, arguments, budget);
}

}  // namespace tessera::coordinator
