#include "coordinator/text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
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

// Bytes of a text that one step looks through.
constexpr size_t kBytesPerStep = 64;

absl::Status NoMeaning(absl::string_view what, const Value& a, const Value& b) {
  return absl::InvalidArgumentError(absl::StrCat("'", what, "' has no meaning between '",
                                                 a.TypeName(), "' and '", b.TypeName(), "'"));
}

absl::string_view Spelling(JinjaOperator op) {
  constexpr absl::string_view kSpellings[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSpellings[static_cast<size_t>(op)];
}

absl::Status TooLarge() { return absl::InvalidArgumentError("an integer past 64 bits"); }

Result IntegerArithmetic(JinjaOperator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflows = false;
  switch (op) {
    case JinjaOperator::kAdd:
      overflows = __builtin_add_overflow(a, b, &result);
      break;
    case JinjaOperator::kSubtract:
      overflows = __builtin_sub_overflow(a, b, &result);
      break;
    case JinjaOperator::kMultiply:
      overflows = __builtin_mul_overflow(a, b, &result);
      break;
    case JinjaOperator::kFloorDivide:
    case JinjaOperator::kModulo: {
      if (b == 0) return absl::InvalidArgumentError("division by zero");
      if (b == -1) {  // INT64_MIN / -1 traps
        if (op == JinjaOperator::kModulo) return Value(int64_t{0});
        overflows = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      const int64_t rest = a % b;
      const bool floors = rest != 0 && (rest < 0) != (b < 0);
      result = op == JinjaOperator::kModulo ? rest + (floors ? b : 0) : a / b - (floors ? 1 : 0);
      break;
    }
    default: {  // kPower
      result = 1;
      for (int64_t i = 0; i < b && !overflows; ++i) {
        if (result == 0 || (result == 1 && i > 0 && a == 1)) break;
        if (a == -1) return Value(b % 2 == 0 ? int64_t{1} : int64_t{-1});
        overflows = __builtin_mul_overflow(result, a, &result);
      }
    }
  }
  if (overflows) return TooLarge();
  return Value(result);
}

Result RealArithmetic(JinjaOperator op, double a, double b) {
  const bool divides = op == JinjaOperator::kDivide || op == JinjaOperator::kFloorDivide ||
                       op == JinjaOperator::kModulo;
  if (divides && b == 0) return absl::InvalidArgumentError("division by zero");
  double result = 0;
  switch (op) {
    case JinjaOperator::kAdd:
      result = a + b;
      break;
    case JinjaOperator::kSubtract:
      result = a - b;
      break;
    case JinjaOperator::kMultiply:
      result = a * b;
      break;
    case JinjaOperator::kDivide:
      result = a / b;
      break;
    case JinjaOperator::kFloorDivide:
      result = std::floor(a / b);
      break;
    case JinjaOperator::kModulo:
      result = std::fmod(a, b);
      if (result != 0 && (result < 0) != (b < 0)) result += b;
      break;
    default:
      result = std::pow(a, b);
  }
  return Value(JinjaReal{result});
}

Result NumberArithmetic(JinjaOperator op, const Value& a, const Value& b) {
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  const bool are_integers = JinjaInteger(a, &i) && JinjaInteger(b, &j);
  const bool stays_integer =
      op != JinjaOperator::kDivide && (op != JinjaOperator::kPower || j >= 0);
  if (are_integers && stays_integer) return IntegerArithmetic(op, i, j);
  if (JinjaNumber(a, &x) && JinjaNumber(b, &y)) return RealArithmetic(op, x, y);
  return NoMeaning(Spelling(op), a, b);
}

Result Repeat(const Value& sequence, int64_t times, JinjaBudget& budget) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (const ChatPrompt* text = sequence.text()) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(text->text().size(), count, &bytes)) bytes = SIZE_MAX;
    TESSERA_RETURN_IF_ERROR(budget.Bytes(bytes));
    TESSERA_RETURN_IF_ERROR(budget.Steps(bytes == 0 ? 0 : count));
    ChatPrompt out;
    for (size_t i = 0; i < count && bytes > 0; ++i) out.AppendSlice(*text, 0, text->text().size());
    return Value::Of(std::move(out));
  }
  const std::vector<Value>& items = sequence.list()->items;
  size_t total = 0;
  if (__builtin_mul_overflow(items.size(), count, &total)) total = SIZE_MAX;
  TESSERA_RETURN_IF_ERROR(budget.Items(total));
  std::vector<Value> repeated;
  for (size_t i = 0; i < count && total > 0; ++i) {
    repeated.insert(repeated.end(), items.begin(), items.end());
  }
  return JinjaList::Make(std::move(repeated), sequence.list()->is_tuple);
}

absl::StatusOr<bool> Contains(const Value& container, const Value& item, JinjaBudget& budget) {
  if (container.IsUndefined()) return false;
  if (const JinjaDict* dict = container.dict()) return dict->Find(item) != nullptr;
  if (const JinjaList* list = container.list()) {
    TESSERA_RETURN_IF_ERROR(budget.Steps(list->nodes));
    return std::any_of(list->items.begin(), list->items.end(),
                       [&](const Value& known) { return JinjaEqual(known, item); });
  }
  if (container.text() == nullptr || item.text() == nullptr) {
    return NoMeaning("in", item, container);
  }
  TESSERA_RETURN_IF_ERROR(budget.Steps(container.text()->text().size() / kBytesPerStep));
  return absl::StrContains(container.text()->text(), item.text()->text());
}

// Position `index` of `size`, from the end if negative; nullopt outside.
std::optional<size_t> Position(int64_t index, size_t size) {
  if (index < 0) index += static_cast<int64_t>(size);
  if (index < 0 || static_cast<size_t>(index) >= size) return std::nullopt;
  return static_cast<size_t>(index);
}

// The positions a slice of `size` things takes, as Python's slice.indices().
absl::StatusOr<std::vector<size_t>> SlicePositions(const JinjaBounds& bounds, size_t size) {
  const int64_t step = bounds.step.value_or(1), count = static_cast<int64_t>(size);
  if (step == 0) return absl::InvalidArgumentError("a slice's step is 0");
  const auto clamp = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound) return otherwise;
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    return std::clamp(*bound < 0 ? *bound + count : *bound, low, high);
  };
  const int64_t begin = clamp(bounds.begin, step < 0 ? count - 1 : 0);
  const int64_t end = clamp(bounds.end, step < 0 ? -1 : count);
  std::vector<size_t> positions;
  // One past the ends at most, so a huge step cannot overflow.
  const int64_t stride = std::clamp<int64_t>(step, -count - 1, count + 1);
  for (int64_t at = begin; stride > 0 ? at < end : at > end; at += stride) {
    positions.push_back(static_cast<size_t>(at));
  }
  return positions;
}

Value LoopAttribute(const JinjaLoop& loop, absl::string_view name) {
  const std::vector<Value>& items = loop.items->items;
  const size_t at = loop.index0;
  const auto number = [](size_t n) { return Value(static_cast<int64_t>(n)); };
  if (name == "index") return number(at + 1);
  if (name == "index0") return number(at);
  if (name == "revindex") return number(items.size() - at);
  if (name == "revindex0") return number(items.size() - at - 1);
  if (name == "first") return Value(at == 0);
  if (name == "last") return Value(at + 1 == items.size());
  if (name == "length") return number(items.size());
  if (name == "depth") return Value(int64_t{1});  // of recursive loops, which there are none of
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem" && at > 0) return items[at - 1];
  if (name == "nextitem" && at + 1 < items.size()) return items[at + 1];
  return Value(Value::Undefined{name});
}

absl::Status UndefinedObject(const Value& object) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", object.As<Value::Undefined>()->name, "' is undefined"));
}

}  // namespace

Result JinjaArithmetic(JinjaOperator op, const Value& a, const Value& b, JinjaBudget& budget) {
  if (op == JinjaOperator::kAdd && a.text() != nullptr && b.text() != nullptr) {
    return JinjaConcat({a, b}, budget);
  }
  if (op == JinjaOperator::kAdd && a.list() != nullptr && b.list() != nullptr &&
      a.list()->is_tuple == b.list()->is_tuple) {
    TESSERA_RETURN_IF_ERROR(budget.Items(a.list()->items.size() + b.list()->items.size()));
    std::vector<Value> items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    return JinjaList::Make(std::move(items), a.list()->is_tuple);
  }
  if (op == JinjaOperator::kMultiply) {
    int64_t times = 0;
    const auto is_sequence = [](const Value& v) { return v.text() != nullptr || v.list(); };
    if (is_sequence(a) && JinjaInteger(b, &times)) return Repeat(a, times, budget);
    if (is_sequence(b) && JinjaInteger(a, &times)) return Repeat(b, times, budget);
  }
  return NumberArithmetic(op, a, b);
}

Result JinjaNegative(const Value& value) {
  int64_t integer = 0;
  if (JinjaInteger(value, &integer)) return IntegerArithmetic(JinjaOperator::kSubtract, 0, integer);
  if (const JinjaReal* real = value.As<JinjaReal>()) return Value(JinjaReal{-real->value});
  return absl::InvalidArgumentError(
      absl::StrCat("'-' has no meaning for '", value.TypeName(), "'"));
}

absl::StatusOr<bool> JinjaComparison(JinjaOperator op, const Value& a, const Value& b,
                                     JinjaBudget& budget) {
  if (op == JinjaOperator::kIn) return Contains(b, a, budget);
  if (op == JinjaOperator::kNotIn) {
    TESSERA_ASSIGN_OR_RETURN(const bool contains, Contains(b, a, budget));
    return !contains;
  }
  TESSERA_RETURN_IF_ERROR(budget.Steps(std::min(a.nodes(), b.nodes())));
  if (a.text() != nullptr && b.text() != nullptr) {
    const size_t bytes = std::min(a.text()->text().size(), b.text()->text().size());
    TESSERA_RETURN_IF_ERROR(budget.Steps(bytes / kBytesPerStep));
  }
  if (op == JinjaOperator::kEqual) return JinjaEqual(a, b);
  if (op == JinjaOperator::kNotEqual) return !JinjaEqual(a, b);
  const absl::StatusOr<int> order = JinjaCompare(a, b);
  if (!order.ok()) return NoMeaning(Spelling(op), a, b);
  if (op == JinjaOperator::kLess) return *order < 0;
  if (op == JinjaOperator::kLessEqual) return *order <= 0;
  return op == JinjaOperator::kGreater ? *order > 0 : *order >= 0;
}

Result JinjaConcat(const std::vector<Value>& parts, JinjaBudget& budget) {
  ChatPrompt out;
  for (const Value& part : parts) {
    if (const ChatPrompt* text = part.text()) {
      TESSERA_RETURN_IF_ERROR(budget.Bytes(text->text().size()));
      out.AppendSlice(*text, 0, text->text().size());
    } else {
      TESSERA_ASSIGN_OR_RETURN(const ChatPrompt words, JinjaStr(part, budget));
      out.AppendSlice(words, 0, words.text().size());
    }
    if (out.text().size() > budget.text_bytes()) return budget.Bytes(out.text().size());
  }
  return Value::Of(std::move(out));
}

Result JinjaItem(const Value& object, const Value& key, JinjaBudget& budget) {
  if (object.IsUndefined()) return UndefinedObject(object);
  if (const JinjaDict* dict = object.dict()) {
    const Value* found = dict->Find(key);
    if (found != nullptr) return *found;
  }
  int64_t index = 0;
  if (JinjaInteger(key, &index)) {
    if (const JinjaList* list = object.list()) {
      const std::optional<size_t> at = Position(index, list->items.size());
      if (at) return list->items[*at];
    } else if (const ChatPrompt* text = object.text()) {
      TESSERA_RETURN_IF_ERROR(budget.Bytes(text->text().size()));
      const std::vector<size_t> begins = CharacterBegins(text->text());
      const std::optional<size_t> at = Position(index, begins.size() - 1);
      if (at) return Value::Of(TextSlice(*text, begins[*at], begins[*at + 1]));
    }
  }
  if (key.text() != nullptr && object.Is<Value::Namespace>()) {
    const Value* found = (*object.As<Value::Namespace>())->Find(key.text()->text());
    if (found != nullptr) return *found;
  }
  return Value(Value::Undefined{"an item"});
}

Result JinjaAttribute(const Value& object, absl::string_view name) {
  if (object.IsUndefined()) return UndefinedObject(object);
  if (HasJinjaMethod(name, object)) return Value(Value::BoundMethod{});
  const Value* found = nullptr;
  if (const JinjaDict* dict = object.dict()) found = dict->Find(name);
  if (const auto* space = object.As<Value::Namespace>()) found = (*space)->Find(name);
  if (const auto* loop = object.As<Value::Loop>()) return LoopAttribute(**loop, name);
  return found == nullptr ? Value(Value::Undefined{name}) : *found;
}

Result JinjaSlice(const Value& object, const JinjaBounds& bounds, JinjaBudget& budget) {
  if (object.IsUndefined()) return UndefinedObject(object);
  if (const JinjaList* list = object.list()) {
    TESSERA_RETURN_IF_ERROR(budget.Items(list->items.size()));
    TESSERA_ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                             SlicePositions(bounds, list->items.size()));
    std::vector<Value> items;
    items.reserve(positions.size());
    for (const size_t at : positions) items.push_back(list->items[at]);
    return JinjaList::Make(std::move(items), list->is_tuple);
  }
  const ChatPrompt* text = object.text();
  if (text == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("'", object.TypeName(), "' has no slices"));
  }
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text->text().size()));
  const std::vector<size_t> begins = CharacterBegins(text->text());
  TESSERA_ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                           SlicePositions(bounds, begins.size() - 1));
  if (positions.empty()) return Value::Literal("");
  if (bounds.step.value_or(1) == 1) {
    return Value::Of(TextSlice(*text, begins[positions.front()], begins[positions.back() + 1]));
  }
  ChatPrompt out;
  for (const size_t at : positions) out.AppendSlice(*text, begins[at], begins[at + 1]);
  return Value::Of(std::move(out));
}

}  // namespace tessera::coordinator
