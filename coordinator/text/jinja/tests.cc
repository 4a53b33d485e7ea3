// Jinja's tests: "value is name(argument)".
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/operators.h"
#include "coordinator/text/jinja/text.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Value = JinjaValue;

bool IsDefined(const Value& value) { return !value.IsUndefined(); }
bool IsUndefined(const Value& value) { return value.IsUndefined(); }
bool IsNone(const Value& value) { return value.IsNone(); }
bool IsString(const Value& value) { return value.text() != nullptr; }
bool IsBoolean(const Value& value) { return value.Is<bool>(); }
bool IsInteger(const Value& value) {
  const JinjaReal* real = value.As<JinjaReal>();
  return value.Is<int64_t>() || (real != nullptr && real->spelling != nullptr);
}
bool IsFloat(const Value& value) { return value.Is<JinjaReal>() && !IsInteger(value); }
bool IsNumber(const Value& value) {  // a bool is one to Python
  return value.Is<bool>() || value.Is<int64_t>() || value.Is<JinjaReal>();
}
bool IsMapping(const Value& value) { return value.dict() != nullptr; }
bool IsSequence(const Value& value) {  // whatever has a length and items
  return value.text() != nullptr || value.list() != nullptr || value.dict() != nullptr ||
         value.IsUndefined();
}
bool IsIterable(const Value& value) { return IsSequence(value) || value.Is<Value::Loop>(); }
bool IsTrue(const Value& value) { return value.Is<bool>() && value.IsTrue(); }
bool IsFalse(const Value& value) { return value.Is<bool>() && !value.IsTrue(); }
bool IsCallable(const Value& value) {
  return value.Is<const JinjaMacro*>() || value.Is<JinjaFunction>() ||
         value.Is<Value::BoundMethod>() || value.IsUndefined();
}
bool IsUpper(const Value& value) {
  return value.text() != nullptr && TextIs(value.text()->text(), TextClass::kUpper);
}
bool IsLower(const Value& value) {
  return value.text() != nullptr && TextIs(value.text()->text(), TextClass::kLower);
}

struct KindTest {
  absl::string_view name;
  bool (*test)(const Value&);
};

constexpr std::array<KindTest, 16> kKindTests = {{
    {"defined", IsDefined},
    {"undefined", IsUndefined},
    {"none", IsNone},
    {"string", IsString},
    {"boolean", IsBoolean},
    {"integer", IsInteger},
    {"float", IsFloat},
    {"number", IsNumber},
    {"mapping", IsMapping},
    {"sequence", IsSequence},
    {"iterable", IsIterable},
    {"true", IsTrue},
    {"false", IsFalse},
    {"callable", IsCallable},
    {"upper", IsUpper},
    {"lower", IsLower},
}};

struct ComparisonTest {
  absl::string_view name;
  JinjaOperator op;
};

constexpr std::array<ComparisonTest, 18> kComparisonTests = {{
    {"eq", JinjaOperator::kEqual},
    {"equalto", JinjaOperator::kEqual},
    {"==", JinjaOperator::kEqual},
    {"sameas", JinjaOperator::kEqual},
    {"ne", JinjaOperator::kNotEqual},
    {"!=", JinjaOperator::kNotEqual},
    {"lt", JinjaOperator::kLess},
    {"lessthan", JinjaOperator::kLess},
    {"<", JinjaOperator::kLess},
    {"le", JinjaOperator::kLessEqual},
    {"<=", JinjaOperator::kLessEqual},
    {"gt", JinjaOperator::kGreater},
    {"greaterthan", JinjaOperator::kGreater},
    {">", JinjaOperator::kGreater},
    {"ge", JinjaOperator::kGreaterEqual},
    {">=", JinjaOperator::kGreaterEqual},
    {"in", JinjaOperator::kIn},
    {"divisibleby", JinjaOperator::kModulo},
}};

template <typename Table>
auto FindTest(const Table& table, absl::string_view name) {
  return std::find_if(table.begin(), table.end(), [&](const auto& t) { return t.name == name; });
}

absl::StatusOr<bool> ParityTest(absl::string_view name, const Value& subject) {
  int64_t integer = 0;
  if (!JinjaInteger(subject, &integer)) {
    return absl::InvalidArgumentError(absl::StrCat("the test '", name, "' expects an integer"));
  }
  return (integer % 2 != 0) == (name == "odd");
}

}  // namespace

bool IsJinjaTest(absl::string_view name) {
  return name == "odd" || name == "even" || FindTest(kKindTests, name) != kKindTests.end() ||
         FindTest(kComparisonTests, name) != kComparisonTests.end();
}

absl::StatusOr<bool> ApplyJinjaTest(absl::string_view name, const JinjaValue& subject,
                                    const JinjaArguments& arguments, JinjaBudget& budget) {
  if (const auto kind = FindTest(kKindTests, name); kind != kKindTests.end()) {
    TESSERA_RETURN_IF_ERROR(arguments.Check({}));
    return kind->test(subject);
  }
  if (name == "odd" || name == "even") return ParityTest(name, subject);
  const auto comparison = FindTest(kComparisonTests, name);
  const Value* other = arguments.Get(0, "other");
  if (comparison == kComparisonTests.end() || other == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("the test '", name, "' expects an argument"));
  }
  if (comparison->op == JinjaOperator::kModulo) {
    TESSERA_ASSIGN_OR_RETURN(const Value rest,
                             JinjaArithmetic(JinjaOperator::kModulo, subject, *other, budget));
    return !rest.IsTrue();
  }
  return JinjaComparison(comparison->op, subject, *other, budget);
}

}  // namespace tessera::coordinator
