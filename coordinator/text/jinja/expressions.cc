// The evaluator's expressions and calls.
#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/evaluator.h"
#include "coordinator/text/jinja/operators.h"
#include "coordinator/text/jinja/print.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Kind = JinjaExpression::Kind;

// The sandbox's own: jinja2.sandbox.MAX_RANGE.
constexpr int64_t kMaxRange = 100'000;

}  // namespace

JinjaEvaluator::Result JinjaEvaluator::Evaluate(const JinjaExpression& expression, Scope& scope) {
  TESSERA_RETURN_IF_ERROR(budget_.Steps(1));
  TESSERA_RETURN_IF_ERROR(budget_.Enter());
  Result result = EvaluateKind(expression, scope);
  budget_.Leave();
  if (!result.ok()) return AtLine(result.status(), expression.line);
  return result;
}

JinjaEvaluator::Result JinjaEvaluator::EvaluateKind(const JinjaExpression& expression,
                                                    Scope& scope) {
  switch (expression.kind) {
    case Kind::kConstant:
      return expression.value;
    case Kind::kName: {
      const JinjaValue* found = scope.Find(expression.name);
      return found == nullptr ? JinjaValue(JinjaValue::Undefined{expression.name}) : *found;
    }
    case Kind::kList:
    case Kind::kTuple:
      return Sequence(expression, scope);
    case Kind::kDict:
      return Dict(expression, scope);
    case Kind::kAttribute: {
      TESSERA_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*expression.operands[0], scope));
      return JinjaAttribute(object, expression.name);
    }
    case Kind::kItem: {
      TESSERA_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*expression.operands[0], scope));
      TESSERA_ASSIGN_OR_RETURN(const JinjaValue key, Evaluate(*expression.operands[1], scope));
      return JinjaItem(object, key, budget_);
    }
    case Kind::kSlice:
      return Slice(expression, scope);
    case Kind::kCall:
      return Call(expression, scope);
    case Kind::kFilter:
    case Kind::kTest:
      return FilterOrTest(expression, scope);
    case Kind::kNegate:
    case Kind::kPlus: {
      TESSERA_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*expression.operands[0], scope));
      TESSERA_ASSIGN_OR_RETURN(JinjaValue negative, JinjaNegative(value));
      return expression.kind == Kind::kNegate ? negative : value;
    }
    case Kind::kNot:
    case Kind::kAnd:
    case Kind::kOr:
      return Logic(expression, scope);
    case Kind::kArithmetic:
    case Kind::kConcat:
      return Binary(expression, scope);
    case Kind::kCompare:
      return Compare(expression, scope);
    case Kind::kConditional:
      return Conditional(expression, scope);
    case Kind::kBlockText:
      return block_text_;
  }
  return absl::InternalError("an expression of no known kind");
}

absl::StatusOr<std::vector<JinjaValue>> JinjaEvaluator::Operands(const JinjaExpression& expression,
                                                                 size_t first, Scope& scope) {
  std::vector<JinjaValue> values;
  values.reserve(expression.operands.size() - first);
  for (size_t i = first; i < expression.operands.size(); ++i) {
    TESSERA_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*expression.operands[i], scope));
    values.push_back(std::move(value));
  }
  return values;
}

JinjaEvaluator::Result JinjaEvaluator::Sequence(const JinjaExpression& expression, Scope& scope) {
  TESSERA_RETURN_IF_ERROR(budget_.Items(expression.operands.size()));
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaValue> items, Operands(expression, 0, scope));
  return JinjaList::Make(std::move(items), expression.kind == Kind::kTuple);
}

JinjaEvaluator::Result JinjaEvaluator::Dict(const JinjaExpression& expression, Scope& scope) {
  TESSERA_RETURN_IF_ERROR(budget_.Items(expression.operands.size()));
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaValue> items, Operands(expression, 0, scope));
  auto dict = std::make_shared<JinjaDict>();
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    TESSERA_RETURN_IF_ERROR(dict->Set(std::move(items[i]), std::move(items[i + 1])));
  }
  return JinjaValue(JinjaValue::Dict(std::move(dict)));
}

JinjaEvaluator::Result JinjaEvaluator::Slice(const JinjaExpression& expression, Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*expression.operands[0], scope));
  JinjaBounds bounds;
  std::optional<int64_t>* const parts[] = {&bounds.begin, &bounds.end, &bounds.step};
  for (size_t i = 0; i < 3; ++i) {
    const JinjaExpressionPtr& part = expression.operands[i + 1];
    if (part == nullptr) continue;
    TESSERA_ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*part, scope));
    int64_t bound = 0;
    if (value.IsNone()) continue;
    if (!JinjaInteger(value, &bound)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a slice's bound is of type '", value.TypeName(), "'; expected int"));
    }
    *parts[i] = bound;
  }
  return JinjaSlice(object, bounds, budget_);
}

JinjaEvaluator::Result JinjaEvaluator::Logic(const JinjaExpression& expression, Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*expression.operands[0], scope));
  if (expression.kind == Kind::kNot) return JinjaValue(!left.IsTrue());
  if (left.IsTrue() == (expression.kind == Kind::kOr)) return left;
  return Evaluate(*expression.operands[1], scope);
}

JinjaEvaluator::Result JinjaEvaluator::Binary(const JinjaExpression& expression, Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(const std::vector<JinjaValue> values, Operands(expression, 0, scope));
  if (expression.kind == Kind::kConcat) return JinjaConcat(values, budget_);
  return JinjaArithmetic(expression.operators[0], values[0], values[1], budget_);
}

JinjaEvaluator::Result JinjaEvaluator::Compare(const JinjaExpression& expression, Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*expression.operands[0], scope));
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    TESSERA_ASSIGN_OR_RETURN(JinjaValue right, Evaluate(*expression.operands[i + 1], scope));
    TESSERA_ASSIGN_OR_RETURN(const bool holds,
                             JinjaComparison(expression.operators[i], left, right, budget_));
    if (!holds) return JinjaValue(false);
    left = std::move(right);
  }
  return JinjaValue(true);
}

JinjaEvaluator::Result JinjaEvaluator::Conditional(const JinjaExpression& expression,
                                                   Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(*expression.operands[0], scope));
  if (condition.IsTrue()) return Evaluate(*expression.operands[1], scope);
  const JinjaExpressionPtr& otherwise = expression.operands[2];
  if (otherwise != nullptr) return Evaluate(*otherwise, scope);
  return JinjaValue(JinjaValue::Undefined{"what a condition without else gives"});
}

absl::StatusOr<JinjaArguments> JinjaEvaluator::Arguments(const JinjaExpression& expression,
                                                         Scope& scope) {
  JinjaArguments arguments;
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaValue> values, Operands(expression, 1, scope));
  const size_t positional = values.size() - expression.keywords.size();
  for (size_t i = 0; i < expression.keywords.size(); ++i) {
    arguments.keywords.emplace_back(expression.keywords[i], std::move(values[positional + i]));
  }
  values.resize(positional);
  arguments.values = std::move(values);
  return arguments;
}

JinjaEvaluator::Result JinjaEvaluator::FilterOrTest(const JinjaExpression& expression,
                                                    Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(const JinjaValue subject, Evaluate(*expression.operands[0], scope));
  TESSERA_ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
  if (expression.kind == Kind::kFilter) {
    return ApplyJinjaFilter(expression.name, subject, arguments, budget_);
  }
  TESSERA_ASSIGN_OR_RETURN(const bool holds,
                           ApplyJinjaTest(expression.name, subject, arguments, budget_));
  return JinjaValue(holds);
}

JinjaEvaluator::Result JinjaEvaluator::Call(const JinjaExpression& expression, Scope& scope) {
  const JinjaExpression& callee = *expression.operands[0];
  if (callee.kind == Kind::kAttribute) {
    TESSERA_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*callee.operands[0], scope));
    TESSERA_ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
    return CallJinjaMethod(callee.name, object, arguments, budget_);
  }
  TESSERA_ASSIGN_OR_RETURN(const JinjaValue function, Evaluate(callee, scope));
  TESSERA_ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
  if (const auto* macro = function.As<const JinjaMacro*>()) return CallMacro(**macro, arguments);
  if (const auto* known = function.As<JinjaFunction>()) return CallFunction(*known, arguments);
  return absl::InvalidArgumentError(absl::StrCat("'", function.TypeName(), "' cannot be called"));
}

JinjaEvaluator::Result JinjaEvaluator::CallMacro(const JinjaMacro& macro,
                                                 const JinjaArguments& arguments) {
  if (arguments.values.size() > macro.parameters.size()) {
    return absl::InvalidArgumentError(absl::StrCat("macro '", macro.name, "' takes at most ",
                                                   macro.parameters.size(), " arguments"));
  }
  for (const auto& given : arguments.keywords) {
    const absl::string_view keyword = given.first;
    const bool is_known = std::any_of(macro.parameters.begin(), macro.parameters.end(),
                                      [&](const auto& known) { return known.name == keyword; });
    if (is_known) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("macro '", macro.name, "' has no argument '", keyword, "'"));
  }
  Scope scope{&globals_};
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const JinjaParameter& parameter = macro.parameters[i];
    JinjaValue value(JinjaValue::Undefined{parameter.name});
    if (const JinjaValue* given = arguments.Get(i, parameter.name)) {
      value = *given;
    } else if (parameter.value != nullptr) {
      TESSERA_ASSIGN_OR_RETURN(value, Evaluate(*parameter.value, scope));
    }
    scope.Set(parameter.name, std::move(value));
  }
  return Captured(macro.body, scope);
}

JinjaEvaluator::Result JinjaEvaluator::CallFunction(JinjaFunction function,
                                                    const JinjaArguments& arguments) {
  switch (function) {
    case JinjaFunction::kRange:
      return Range(arguments);
    case JinjaFunction::kNamespace:
      return Namespace(arguments);
    case JinjaFunction::kRaiseException:
      return Raise(arguments);
    case JinjaFunction::kStrftimeNow:
      return StrftimeNow(arguments);
    case JinjaFunction::kDict: {
      auto dict = std::make_shared<JinjaDict>();
      if (!arguments.values.empty()) {
        return absl::InvalidArgumentError("dict() expects named arguments alone");
      }
      for (const auto& [name, value] : arguments.keywords) {
        TESSERA_RETURN_IF_ERROR(dict->Set(JinjaValue::Literal(name), value));
      }
      return JinjaValue(JinjaValue::Dict(std::move(dict)));
    }
  }
  return absl::InternalError("a function of no known kind");
}

JinjaEvaluator::Result JinjaEvaluator::Range(const JinjaArguments& arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = arguments.values.size();
  if (count < 1 || count > 3 || !arguments.keywords.empty()) {
    return absl::InvalidArgumentError("range() expects one to three integers");
  }
  for (size_t i = 0; i < count; ++i) {
    if (JinjaInteger(arguments.values[i], &bounds[count == 1 ? 1 : i])) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("range() expects integers; given '", arguments.values[i].TypeName(), "'"));
  }
  const auto [begin, end, step] = bounds;
  if (step == 0) return absl::InvalidArgumentError("range() with a step of 0");
  std::vector<JinjaValue> items;
  for (int64_t at = begin; step > 0 ? at < end : at > end;) {
    if (static_cast<int64_t>(items.size()) >= kMaxRange) {
      return absl::InvalidArgumentError(
          absl::StrCat("range() of more than ", kMaxRange, " integers"));
    }
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  TESSERA_RETURN_IF_ERROR(budget_.Items(items.size()));
  return JinjaList::Make(std::move(items));
}

JinjaEvaluator::Result JinjaEvaluator::Namespace(const JinjaArguments& arguments) {
  auto space = std::make_shared<JinjaNamespace>();
  for (const JinjaValue& value : arguments.values) {
    if (value.dict() == nullptr) {
      return absl::InvalidArgumentError("namespace() expects a dict or named arguments");
    }
    for (const JinjaDict::Entry& entry : value.dict()->entries()) {
      TESSERA_ASSIGN_OR_RETURN(const ChatPrompt name, JinjaStr(entry.key, budget_));
      TESSERA_RETURN_IF_ERROR(space->Set(name.text(), entry.value));
    }
  }
  for (const auto& [name, value] : arguments.keywords) {
    TESSERA_RETURN_IF_ERROR(space->Set(name, value));
  }
  return JinjaValue(std::move(space));
}

JinjaEvaluator::Result JinjaEvaluator::Raise(const JinjaArguments& arguments) {
  ChatPrompt words;
  if (!arguments.values.empty()) {
    TESSERA_ASSIGN_OR_RETURN(words, JinjaStr(arguments.values[0], budget_));
  }
  absl::Status raised = absl::InvalidArgumentError(words.text());
  raised.SetPayload(kJinjaRaisedUrl, absl::Cord("1"));
  return raised;
}

JinjaEvaluator::Result JinjaEvaluator::StrftimeNow(const JinjaArguments& arguments) {
  if (arguments.values.size() != 1 || arguments.values[0].text() == nullptr) {
    return absl::InvalidArgumentError("strftime_now() expects a format");
  }
  const std::string& format = arguments.values[0].text()->text();
  TESSERA_RETURN_IF_ERROR(budget_.Bytes(format.size() * 32));
  return JinjaValue::Literal(absl::FormatTime(format, now_, absl::LocalTimeZone()));
}

}  // namespace tessera::coordinator
