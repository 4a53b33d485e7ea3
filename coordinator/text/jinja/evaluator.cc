#include "coordinator/text/jinja/evaluator.h"

#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/print.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {

absl::Status AtLine(const absl::Status& status, int line) {
  if (status.ok() || status.GetPayload(kJinjaRaisedUrl).has_value() ||
      absl::StartsWith(status.message(), "line ")) {
    return status;
  }
  return absl::Status(status.code(), absl::StrCat("line ", line, ": ", status.message()));
}

void JinjaEvaluator::Scope::Set(absl::string_view name, JinjaValue value) {
  for (auto& [known, variable] : variables) {
    if (known != name) continue;
    variable = std::move(value);
    return;
  }
  variables.emplace_back(name, std::move(value));
}

const JinjaValue* JinjaEvaluator::Scope::Find(absl::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer) {
    for (const auto& [known, variable] : scope->variables) {
      if (known == name) return &variable;
    }
  }
  return nullptr;
}

JinjaEvaluator::JinjaEvaluator(const JinjaInput& input) : now_(input.now), budget_(input.limits) {
  globals_.Set("range", JinjaValue(JinjaFunction::kRange));
  globals_.Set("namespace", JinjaValue(JinjaFunction::kNamespace));
  globals_.Set("raise_exception", JinjaValue(JinjaFunction::kRaiseException));
  globals_.Set("strftime_now", JinjaValue(JinjaFunction::kStrftimeNow));
  globals_.Set("dict", JinjaValue(JinjaFunction::kDict));
  for (const auto& [name, value] : input.variables) globals_.Set(name, value);
}

absl::StatusOr<ChatPrompt> JinjaEvaluator::Run(const JinjaBlock& body) {
  ChatPrompt prompt;
  out_ = &prompt;
  TESSERA_RETURN_IF_ERROR(Execute(body, globals_).status());
  return prompt;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::Execute(const JinjaBlock& block,
                                                             Scope& scope) {
  TESSERA_RETURN_IF_ERROR(budget_.Enter());
  for (const JinjaStatement& statement : block) {
    absl::StatusOr<Flow> flow = Execute(statement, scope);
    if (!flow.ok()) return AtLine(flow.status(), statement.line);
    if (*flow == Flow::kNext) continue;
    budget_.Leave();
    return flow;
  }
  budget_.Leave();
  return Flow::kNext;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::Execute(const JinjaStatement& statement,
                                                             Scope& scope) {
  using Kind = JinjaStatement::Kind;
  TESSERA_RETURN_IF_ERROR(budget_.Steps(1));
  switch (statement.kind) {
    case Kind::kText:
      TESSERA_RETURN_IF_ERROR(budget_.Bytes(statement.text.text().size()));
      out_->AppendSlice(statement.text, 0, statement.text.text().size());
      break;
    case Kind::kOutput: {
      TESSERA_ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*statement.expression, scope));
      TESSERA_RETURN_IF_ERROR(Write(value));
      break;
    }
    case Kind::kIf: {
      TESSERA_ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(*statement.expression, scope));
      return Execute(condition.IsTrue() ? statement.body : statement.otherwise, scope);
    }
    case Kind::kFor:
      return For(statement, scope);
    case Kind::kSet:
      TESSERA_RETURN_IF_ERROR(Set(statement, scope));
      break;
    case Kind::kSetBlock:
      TESSERA_RETURN_IF_ERROR(SetBlock(statement, scope));
      break;
    case Kind::kMacro:
      scope.Set(statement.macro->name, JinjaValue(statement.macro.get()));
      break;
    case Kind::kWith:
      return With(statement, scope);
    case Kind::kScope: {
      Scope inner{&scope};
      return Execute(statement.body, inner);
    }
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

absl::Status JinjaEvaluator::Write(const JinjaValue& value) {
  TESSERA_ASSIGN_OR_RETURN(const ChatPrompt words, JinjaStr(value, budget_));
  TESSERA_RETURN_IF_ERROR(budget_.Bytes(words.text().size()));
  out_->AppendSlice(words, 0, words.text().size());
  // Of the whole prompt, not of this piece alone.
  const size_t written = out_->text().size();
  return written <= budget_.text_bytes() ? absl::OkStatus() : budget_.Bytes(written);
}

absl::StatusOr<std::vector<JinjaValue>> JinjaEvaluator::LoopItems(const JinjaStatement& statement,
                                                                  Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(const JinjaValue iterable, Evaluate(*statement.expression, scope));
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaValue> items, JinjaItems(iterable, budget_));
  if (statement.filter == nullptr) return items;
  std::vector<JinjaValue> kept;
  for (JinjaValue& item : items) {
    Scope inner{&scope};
    TESSERA_RETURN_IF_ERROR(Assign(statement.target, item, inner));
    TESSERA_ASSIGN_OR_RETURN(const JinjaValue holds, Evaluate(*statement.filter, inner));
    if (holds.IsTrue()) kept.push_back(std::move(item));
  }
  return kept;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::For(const JinjaStatement& statement,
                                                         Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaValue> items, LoopItems(statement, scope));
  if (items.empty()) {
    Scope inner{&scope};
    return Execute(statement.otherwise, inner);
  }
  auto list = std::make_shared<JinjaList>();
  list->items = std::move(items);
  for (size_t i = 0; i < list->items.size(); ++i) {
    TESSERA_RETURN_IF_ERROR(budget_.Steps(1));
    Scope inner{&scope};
    inner.Set("loop", JinjaValue(std::make_shared<const JinjaLoop>(JinjaLoop{list, i})));
    TESSERA_RETURN_IF_ERROR(Assign(statement.target, list->items[i], inner));
    TESSERA_ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, inner));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::With(const JinjaStatement& statement,
                                                          Scope& scope) {
  Scope inner{&scope};
  for (const JinjaParameter& parameter : statement.parameters) {
    TESSERA_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*parameter.value, scope));
    inner.Set(parameter.name, std::move(value));
  }
  return Execute(statement.body, inner);
}

absl::Status JinjaEvaluator::Set(const JinjaStatement& statement, Scope& scope) {
  TESSERA_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*statement.expression, scope));
  return Assign(statement.target, std::move(value), scope);
}

absl::Status JinjaEvaluator::SetBlock(const JinjaStatement& statement, Scope& scope) {
  Scope inner{&scope};
  TESSERA_ASSIGN_OR_RETURN(block_text_, Captured(statement.body, inner));
  TESSERA_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*statement.expression, scope));
  return Assign(statement.target, std::move(value), scope);
}

JinjaEvaluator::Result JinjaEvaluator::Captured(const JinjaBlock& body, Scope& scope) {
  ChatPrompt written;
  ChatPrompt* const outer = std::exchange(out_, &written);
  const absl::StatusOr<Flow> flow = Execute(body, scope);
  out_ = outer;
  TESSERA_RETURN_IF_ERROR(flow.status());
  return JinjaValue::Of(std::move(written));
}

absl::Status JinjaEvaluator::Assign(const JinjaTarget& target, JinjaValue value, Scope& scope) {
  const std::string& name = target.names.front();
  if (!target.attribute.empty()) {
    const JinjaValue* owner = scope.Find(name);
    const auto* space = owner == nullptr ? nullptr : owner->As<JinjaValue::Namespace>();
    if (space == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("'", name, "' is no namespace"));
    }
    return (*space)->Set(target.attribute, std::move(value));
  }
  if (!target.unpacks) {
    scope.Set(name, std::move(value));
    return absl::OkStatus();
  }
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaValue> items, JinjaItems(value, budget_));
  if (items.size() != target.names.size()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot unpack ", items.size(), " values into ",
                                                   target.names.size(), " names"));
  }
  for (size_t i = 0; i < items.size(); ++i) scope.Set(target.names[i], std::move(items[i]));
  return absl::OkStatus();
}

}  // namespace tessera::coordinator
