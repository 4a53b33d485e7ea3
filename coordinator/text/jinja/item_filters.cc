#include "coordinator/text/jinja/item_filters.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/operators.h"
#include "coordinator/text/jinja/print.h"
#include "coordinator/text/jinja/text.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Value = JinjaValue;
using Values = std::vector<Value>;
using Result = absl::StatusOr<Value>;

absl::Status WrongArgument(absl::string_view filter, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("the filter '", filter, "' expects ", expected));
}

// item.a.b.0 for the path "a.b.0"; Jinja looks parts up as items.
Result AtPath(const Value& item, const Value& path, JinjaBudget& budget) {
  if (path.text() == nullptr) return JinjaItem(item, path, budget);
  Value at = item;
  for (const ChatPrompt& part : TextSplit(*path.text(), {.separator = "."})) {
    int64_t index = 0;
    const Value key = absl::SimpleAtoi(part.text(), &index) ? Value(index) : Value::Of(part);
    TESSERA_ASSIGN_OR_RETURN(at, JinjaItem(at, key, budget));
  }
  return at;
}

const Value* Attribute(const JinjaArguments& arguments) {
  const Value* attribute = arguments.Get(SIZE_MAX, "attribute");
  return attribute != nullptr && attribute->IsNone() ? nullptr : attribute;
}

// What sorting and comparing go by: strings without case unless `case_sensitive`.
Result SortKey(const Value& item, const Value* attribute, bool case_sensitive,
               JinjaBudget& budget) {
  Value key = item;
  if (attribute != nullptr) {
    TESSERA_ASSIGN_OR_RETURN(key, AtPath(item, *attribute, budget));
  }
  if (case_sensitive || key.text() == nullptr) return key;
  TESSERA_RETURN_IF_ERROR(budget.Bytes(key.text()->text().size()));
  return Value::Of(TextToCase(*key.text(), TextCase::kLower));
}

bool Flag(const JinjaArguments& arguments, size_t index, absl::string_view name) {
  const Value* flag = arguments.Get(index, name);
  return flag != nullptr && flag->IsTrue();
}

struct Keyed {
  Value key;
  Value item;
};

absl::StatusOr<std::vector<Keyed>> WithKeys(Values items, const Value* attribute,
                                            bool case_sensitive, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(budget.Items(items.size()));
  std::vector<Keyed> keyed;
  keyed.reserve(items.size());
  for (Value& item : items) {
    TESSERA_ASSIGN_OR_RETURN(Value key, SortKey(item, attribute, case_sensitive, budget));
    keyed.push_back({std::move(key), std::move(item)});
  }
  return keyed;
}

Result Sorted(std::vector<Keyed> keyed, bool reverse, JinjaBudget& budget) {
  size_t nodes = 0;
  for (const Keyed& entry : keyed) {
    TESSERA_RETURN_IF_ERROR(JinjaCompare(entry.key, keyed[0].key).status());
    nodes += std::min(entry.key.nodes(), size_t{1} << 32);
  }
  // log2 of what can be sorted at all.
  TESSERA_RETURN_IF_ERROR(budget.Steps(nodes * 16));
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    const int order = JinjaCompare(a.key, b.key).value_or(0);
    return reverse ? order > 0 : order < 0;
  });
  Values sorted;
  for (Keyed& entry : keyed) sorted.push_back(std::move(entry.item));
  return JinjaList::Make(std::move(sorted));
}

Result Sort(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"reverse", "case_sensitive", "attribute"}));
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  const Value* attribute = arguments.Get(2, "attribute");
  TESSERA_ASSIGN_OR_RETURN(
      std::vector<Keyed> keyed,
      WithKeys(std::move(items), attribute, Flag(arguments, 1, "case_sensitive"), budget));
  return Sorted(std::move(keyed), Flag(arguments, 0, "reverse"), budget);
}

Result DictSort(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"case_sensitive", "by", "reverse"}));
  if (subject.dict() == nullptr) return WrongArgument("dictsort", "a dict");
  const Value* by = arguments.Get(1, "by");
  const bool by_value = by != nullptr && by->text() != nullptr && by->text()->text() == "value";
  TESSERA_ASSIGN_OR_RETURN(const Value pairs, CallJinjaMethod("items", subject, {}, budget));
  const Value index(int64_t{by_value ? 1 : 0});
  TESSERA_ASSIGN_OR_RETURN(
      std::vector<Keyed> keyed,
      WithKeys(pairs.list()->items, &index, Flag(arguments, 0, "case_sensitive"), budget));
  return Sorted(std::move(keyed), Flag(arguments, 2, "reverse"), budget);
}

Result Unique(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"case_sensitive", "attribute"}));
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  TESSERA_ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                           WithKeys(std::move(items), arguments.Get(1, "attribute"),
                                    Flag(arguments, 0, "case_sensitive"), budget));
  JinjaDict seen;
  Values unique;
  for (Keyed& entry : keyed) {
    if (seen.Find(entry.key) != nullptr) continue;
    TESSERA_RETURN_IF_ERROR(seen.Set(entry.key, Value(true)));
    unique.push_back(std::move(entry.item));
  }
  return JinjaList::Make(std::move(unique));
}

// min and max.
template <int sign>
Result Extreme(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"case_sensitive", "attribute"}));
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  TESSERA_ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                           WithKeys(std::move(items), arguments.Get(1, "attribute"),
                                    Flag(arguments, 0, "case_sensitive"), budget));
  if (keyed.empty()) return Value(Value::Undefined{"an item of nothing"});
  const Keyed* best = &keyed[0];
  for (const Keyed& entry : keyed) {
    TESSERA_RETURN_IF_ERROR(budget.Steps(std::min(entry.key.nodes(), best->key.nodes())));
    TESSERA_ASSIGN_OR_RETURN(const int order, JinjaCompare(entry.key, best->key));
    if (order * sign > 0) best = &entry;
  }
  return best->item;
}

Result Sum(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"attribute", "start"}));
  const Value *attribute = arguments.Get(0, "attribute"), *start = arguments.Get(1, "start");
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  TESSERA_ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                           WithKeys(std::move(items), attribute, true, budget));
  Value sum = start == nullptr ? Value(int64_t{0}) : *start;
  for (const Keyed& entry : keyed) {
    TESSERA_ASSIGN_OR_RETURN(sum, JinjaArithmetic(JinjaOperator::kAdd, sum, entry.key, budget));
  }
  return sum;
}

Result Join(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({"d", "attribute"}));
  const Value *given = arguments.Get(0, "d"), *attribute = arguments.Get(1, "attribute");
  ChatPrompt separator;
  if (given != nullptr) {
    TESSERA_ASSIGN_OR_RETURN(separator, JinjaStr(*given, budget));
  }
  const Value between = Value::Of(std::move(separator));
  TESSERA_ASSIGN_OR_RETURN(const Values items, JinjaItems(subject, budget));
  TESSERA_RETURN_IF_ERROR(budget.Items(items.size() * 2));
  Values parts;
  for (const Value& item : items) {
    if (!parts.empty()) parts.push_back(between);
    Value part = item;
    if (attribute != nullptr) {
      TESSERA_ASSIGN_OR_RETURN(part, AtPath(item, *attribute, budget));
    }
    parts.push_back(std::move(part));
  }
  return JinjaConcat(parts, budget);
}

Result First(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_ASSIGN_OR_RETURN(const Values items, JinjaItems(subject, budget));
  return items.empty() ? Value(Value::Undefined{"the first item of nothing"}) : items.front();
}

Result Last(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_ASSIGN_OR_RETURN(const Values items, JinjaItems(subject, budget));
  return items.empty() ? Value(Value::Undefined{"the last item of nothing"}) : items.back();
}

Result ToList(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  return JinjaList::Make(std::move(items));
}

Result Items(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  if (subject.IsUndefined()) return JinjaList::Make({});
  if (subject.dict() == nullptr) return WrongArgument("items", "a dict");
  return CallJinjaMethod("items", subject, {}, budget);
}

Result Reverse(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(arguments.Check({}));
  if (subject.text() != nullptr)
    return JinjaSlice(subject, {std::nullopt, std::nullopt, -1}, budget);
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  std::reverse(items.begin(), items.end());
  return JinjaList::Make(std::move(items));
}

// `arguments` without the first `count`.
JinjaArguments Behind(const JinjaArguments& arguments, size_t count) {
  JinjaArguments rest = arguments;
  rest.values.erase(rest.values.begin(), rest.values.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                   count, rest.values.size())));
  return rest;
}

Result Map(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_ASSIGN_OR_RETURN(Values items, JinjaItems(subject, budget));
  const Value *attribute = Attribute(arguments), *filter = arguments.Get(0, "");
  const Value* otherwise = arguments.Get(SIZE_MAX, "default");
  if (attribute == nullptr && (filter == nullptr || filter->text() == nullptr)) {
    return WrongArgument("map", "a filter's name or an attribute");
  }
  const JinjaArguments rest = Behind(arguments, 1);
  for (Value& item : items) {
    TESSERA_RETURN_IF_ERROR(budget.Steps(1));
    if (attribute == nullptr) {
      TESSERA_ASSIGN_OR_RETURN(item, ApplyJinjaFilter(filter->text()->text(), item, rest, budget));
      continue;
    }
    TESSERA_ASSIGN_OR_RETURN(item, AtPath(item, *attribute, budget));
    if (item.IsUndefined() && otherwise != nullptr) item = *otherwise;
  }
  return JinjaList::Make(std::move(items));
}

// select, reject, selectattr, rejectattr.
template <bool by_attribute, bool keeps>
Result Select(const Value& subject, const JinjaArguments& arguments, JinjaBudget& budget) {
  TESSERA_ASSIGN_OR_RETURN(const Values items, JinjaItems(subject, budget));
  const size_t first = by_attribute ? 1 : 0;
  const Value *attribute = arguments.Get(0, ""), *test = arguments.Get(first, "");
  if (by_attribute && attribute == nullptr) return WrongArgument("selectattr", "an attribute");
  if (test != nullptr && (test->text() == nullptr || !IsJinjaTest(test->text()->text()))) {
    return WrongArgument("select", "a test's name");
  }
  const JinjaArguments rest = Behind(arguments, first + 1);
  Values selected;
  for (const Value& item : items) {
    TESSERA_RETURN_IF_ERROR(budget.Steps(1));
    Value tested = item;
    if (by_attribute) {
      TESSERA_ASSIGN_OR_RETURN(tested, AtPath(item, *attribute, budget));
    }
    bool holds = tested.IsTrue();
    if (test != nullptr) {
      TESSERA_ASSIGN_OR_RETURN(holds, ApplyJinjaTest(test->text()->text(), tested, rest, budget));
    }
    if (holds == keeps) selected.push_back(item);
  }
  return JinjaList::Make(std::move(selected));
}

struct Filter {
  absl::string_view name;
  JinjaFilter filter;
};

constexpr std::array<Filter, 17> kFilters = {{
    {"sort", Sort},
    {"dictsort", DictSort},
    {"unique", Unique},
    {"min", Extreme<-1>},
    {"max", Extreme<1>},
    {"sum", Sum},
    {"join", Join},
    {"first", First},
    {"last", Last},
    {"list", ToList},
    {"items", Items},
    {"reverse", Reverse},
    {"map", Map},
    {"select", Select<false, true>},
    {"reject", Select<false, false>},
    {"selectattr", Select<true, true>},
    {"rejectattr", Select<true, false>},
}};

}  // namespace

JinjaFilter FindJinjaItemFilter(absl::string_view name) {
  const auto found = std::find_if(kFilters.begin(), kFilters.end(),
                                  [&](const Filter& filter) { return filter.name == name; });
  return found == kFilters.end() ? nullptr : found->filter;
}

absl::StatusOr<std::vector<JinjaValue>> JinjaItems(const JinjaValue& value, JinjaBudget& budget) {
  std::vector<Value> items;
  if (const JinjaList* list = value.list()) {
    TESSERA_RETURN_IF_ERROR(budget.Items(list->items.size()));
    return list->items;
  }
  if (const JinjaDict* dict = value.dict()) {
    TESSERA_RETURN_IF_ERROR(budget.Items(dict->entries().size()));
    for (const JinjaDict::Entry& entry : dict->entries()) items.push_back(entry.key);
    return items;
  }
  if (const ChatPrompt* text = value.text()) {
    TESSERA_RETURN_IF_ERROR(budget.Items(text->text().size()));
    const std::vector<size_t> begins = CharacterBegins(text->text());
    for (size_t i = 0; i + 1 < begins.size(); ++i) {
      items.push_back(Value::Of(TextSlice(*text, begins[i], begins[i + 1])));
    }
    return items;
  }
  if (value.IsUndefined()) return items;
  return absl::InvalidArgumentError(
      absl::StrCat("'", value.TypeName(), "' cannot be iterated over"));
}

}  // namespace tessera::coordinator
