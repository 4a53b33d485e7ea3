// Walks a template's syntax tree. For jinja_template.cc; one evaluator renders once.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_EVALUATOR_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_EVALUATOR_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/template.h"

namespace tessera::coordinator {

class JinjaEvaluator {
 public:
  explicit JinjaEvaluator(const JinjaInput& input);

  absl::StatusOr<ChatPrompt> Run(const JinjaBlock& body);

 private:
  using Result = absl::StatusOr<JinjaValue>;
  enum class Flow { kNext, kBreak, kContinue };

  // Variables of one block; what it does not have is looked up further out.
  struct Scope {
    const Scope* outer = nullptr;
    std::vector<std::pair<absl::string_view, JinjaValue>> variables = {};

    void Set(absl::string_view name, JinjaValue value);
    const JinjaValue* Find(absl::string_view name) const;
  };

  // jinja_evaluator.cc: statements.
  absl::StatusOr<Flow> Execute(const JinjaBlock& block, Scope& scope);
  absl::StatusOr<Flow> Execute(const JinjaStatement& statement, Scope& scope);
  absl::StatusOr<Flow> For(const JinjaStatement& statement, Scope& scope);
  absl::StatusOr<std::vector<JinjaValue>> LoopItems(const JinjaStatement& statement, Scope& scope);
  absl::StatusOr<Flow> With(const JinjaStatement& statement, Scope& scope);
  absl::Status Write(const JinjaValue& value);
  absl::Status Set(const JinjaStatement& statement, Scope& scope);
  absl::Status SetBlock(const JinjaStatement& statement, Scope& scope);
  absl::Status Assign(const JinjaTarget& target, JinjaValue value, Scope& scope);
  // What `body` writes, as a value.
  Result Captured(const JinjaBlock& body, Scope& scope);

  // jinja_expressions.cc.
  Result Evaluate(const JinjaExpression& expression, Scope& scope);
  Result EvaluateKind(const JinjaExpression& expression, Scope& scope);
  Result Sequence(const JinjaExpression& expression, Scope& scope);
  Result Dict(const JinjaExpression& expression, Scope& scope);
  Result Slice(const JinjaExpression& expression, Scope& scope);
  Result Logic(const JinjaExpression& expression, Scope& scope);
  Result Binary(const JinjaExpression& expression, Scope& scope);
  Result Compare(const JinjaExpression& expression, Scope& scope);
  Result Conditional(const JinjaExpression& expression, Scope& scope);
  Result FilterOrTest(const JinjaExpression& expression, Scope& scope);
  Result Call(const JinjaExpression& expression, Scope& scope);
  Result CallFunction(JinjaFunction function, const JinjaArguments& arguments);
  Result CallMacro(const JinjaMacro& macro, const JinjaArguments& arguments);
  Result Range(const JinjaArguments& arguments);
  Result Namespace(const JinjaArguments& arguments);
  Result Raise(const JinjaArguments& arguments);
  Result StrftimeNow(const JinjaArguments& arguments);
  absl::StatusOr<std::vector<JinjaValue>> Operands(const JinjaExpression& expression, size_t first,
                                                   Scope& scope);
  absl::StatusOr<JinjaArguments> Arguments(const JinjaExpression& expression, Scope& scope);

  const absl::Time now_;
  JinjaBudget budget_;
  Scope globals_;
  ChatPrompt* out_ = nullptr;  // where output goes
  JinjaValue block_text_;      // of the {% set %} block whose filter is evaluated
};

// "line N: ..." in front, once.
absl::Status AtLine(const absl::Status& status, int line);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_EVALUATOR_H_
