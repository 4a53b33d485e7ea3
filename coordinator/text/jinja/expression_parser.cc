#include "coordinator/text/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/builtins.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Kind = JinjaToken::Kind;
using Node = JinjaExpression::Kind;

bool Find(const JinjaToken& token, JinjaOperator* op,
          std::initializer_list<std::pair<absl::string_view, JinjaOperator>> known) {
  if (token.kind != Kind::kOperator) return false;
  for (const auto& [text, meaning] : known) {
    if (token.text != text) continue;
    *op = meaning;
    return true;
  }
  return false;
}

bool IsSum(const JinjaToken& token, JinjaOperator* op) {
  return Find(token, op, {{"+", JinjaOperator::kAdd}, {"-", JinjaOperator::kSubtract}});
}

bool IsProduct(const JinjaToken& token, JinjaOperator* op) {
  return Find(token, op,
              {{"*", JinjaOperator::kMultiply},
               {"/", JinjaOperator::kDivide},
               {"//", JinjaOperator::kFloorDivide},
               {"%", JinjaOperator::kModulo}});
}

bool IsPower(const JinjaToken& token, JinjaOperator* op) {
  return Find(token, op, {{"**", JinjaOperator::kPower}});
}

bool IsComparison(const JinjaToken& token, JinjaOperator* op) {
  return Find(token, op,
              {{"==", JinjaOperator::kEqual},
               {"!=", JinjaOperator::kNotEqual},
               {"<", JinjaOperator::kLess},
               {"<=", JinjaOperator::kLessEqual},
               {">", JinjaOperator::kGreater},
               {">=", JinjaOperator::kGreaterEqual}});
}

std::string Describe(const JinjaToken& token) {
  switch (token.kind) {
    case Kind::kEnd:
      return "the end of the template";
    case Kind::kOutputEnd:
      return "'}}'";
    case Kind::kBlockEnd:
      return "'%}'";
    case Kind::kInteger:
    case Kind::kFloat:
      return "a number";
    case Kind::kString:
      return "a string";
    default:
      return Quoted(token.text);
  }
}

}  // namespace

bool JinjaExpressionParser::SkipName(absl::string_view name) {
  const bool found = IsName(name);
  if (found) Advance();
  return found;
}

bool JinjaExpressionParser::SkipOperator(absl::string_view op) {
  const bool found = IsOperator(op);
  if (found) Advance();
  return found;
}

absl::Status JinjaExpressionParser::ExpectOperator(absl::string_view op) {
  if (SkipOperator(op)) return absl::OkStatus();
  return Error(absl::StrCat("expected '", op, "', found ", Describe(Current())));
}

absl::StatusOr<std::string> JinjaExpressionParser::ExpectName() {
  if (!Is(Kind::kName)) return Error(absl::StrCat("expected a name, found ", Describe(Current())));
  std::string name = Current().text;
  Advance();
  return name;
}

absl::Status JinjaExpressionParser::Error(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat("line ", Current().line, ": ", what));
}

absl::Status JinjaExpressionParser::Unsupported(absl::string_view what) const {
  return absl::UnimplementedError(absl::StrCat("line ", Current().line, ": ", what));
}

absl::Status JinjaExpressionParser::Enter() {
  if (nesting_ >= kMaxParserNesting) {
    return Error(absl::StrCat("the template nests deeper than ", kMaxParserNesting));
  }
  ++nesting_;
  return absl::OkStatus();
}

JinjaExpression JinjaExpressionParser::New(Node kind) const {
  return JinjaExpression{.kind = kind, .line = Current().line};
}

JinjaExpressionParser::Result JinjaExpressionParser::Finish(JinjaExpression expression) const {
  for (const JinjaExpressionPtr& operand : expression.operands) {
    if (operand != nullptr) expression.depth = std::max(expression.depth, operand->depth + 1);
  }
  if (expression.depth > kMaxSyntaxDepth) {
    return Error(absl::StrCat("an expression nests deeper than ", kMaxSyntaxDepth));
  }
  return std::make_unique<const JinjaExpression>(std::move(expression));
}

JinjaExpressionParser::Result JinjaExpressionParser::Expression(bool with_condition) {
  TESSERA_RETURN_IF_ERROR(Enter());
  Result result = with_condition ? Conditional() : Or();
  Leave();
  return result;
}

JinjaExpressionParser::Result JinjaExpressionParser::Tuple(bool with_condition,
                                                           absl::string_view end) {
  JinjaExpression tuple = New(Node::kTuple);
  bool is_tuple = false;
  while (!Is(Kind::kOutputEnd) && !Is(Kind::kBlockEnd) && !IsOperator(")") &&
         (end.empty() || !IsName(end))) {
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr item, Expression(with_condition));
    tuple.operands.push_back(std::move(item));
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return Finish(std::move(tuple));
  if (tuple.operands.empty()) {
    return Error(absl::StrCat("expected an expression, found ", Describe(Current())));
  }
  return std::move(tuple.operands[0]);
}

JinjaExpressionParser::Result JinjaExpressionParser::Conditional() {
  TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr value, Or());
  while (IsName("if")) {
    JinjaExpression node = New(Node::kConditional);
    Advance();
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr condition, Or());
    JinjaExpressionPtr otherwise;
    if (SkipName("else")) {
      TESSERA_ASSIGN_OR_RETURN(otherwise, Expression());
    }
    node.operands.push_back(std::move(condition));
    node.operands.push_back(std::move(value));
    node.operands.push_back(std::move(otherwise));
    TESSERA_ASSIGN_OR_RETURN(value, Finish(std::move(node)));
  }
  return value;
}

JinjaExpressionParser::Result JinjaExpressionParser::Logic(
    Node kind, absl::string_view word, Result (JinjaExpressionParser::*operand)()) {
  TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr left, (this->*operand)());
  while (IsName(word)) {
    JinjaExpression node = New(kind);
    Advance();
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr right, (this->*operand)());
    node.operands.push_back(std::move(left));
    node.operands.push_back(std::move(right));
    TESSERA_ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

JinjaExpressionParser::Result JinjaExpressionParser::Or() {
  return Logic(Node::kOr, "or", &JinjaExpressionParser::And);
}

JinjaExpressionParser::Result JinjaExpressionParser::And() {
  return Logic(Node::kAnd, "and", &JinjaExpressionParser::Not);
}

JinjaExpressionParser::Result JinjaExpressionParser::Not() {
  if (!IsName("not")) return Compare();
  JinjaExpression node = New(Node::kNot);
  Advance();
  TESSERA_RETURN_IF_ERROR(Enter());
  Result operand = Not();
  Leave();
  if (!operand.ok()) return operand;
  node.operands.push_back(*std::move(operand));
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::Compare() {
  JinjaExpression node = New(Node::kCompare);
  TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr first, Sum());
  node.operands.push_back(std::move(first));
  while (true) {
    JinjaOperator op;
    if (IsComparison(Current(), &op)) {
      Advance();
    } else if (SkipName("in")) {
      op = JinjaOperator::kIn;
    } else if (IsName("not") && Next().kind == Kind::kName && Next().text == "in") {
      Advance();
      Advance();
      op = JinjaOperator::kNotIn;
    } else {
      break;
    }
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr operand, Sum());
    node.operators.push_back(op);
    node.operands.push_back(std::move(operand));
  }
  if (node.operators.empty()) return std::move(node.operands[0]);
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::LeftAssociative(
    Result (JinjaExpressionParser::*operand)(),
    bool (*is_operator)(const JinjaToken&, JinjaOperator*)) {
  TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr left, (this->*operand)());
  JinjaOperator op;
  while (is_operator(Current(), &op)) {
    JinjaExpression node = New(Node::kArithmetic);
    Advance();
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr right, (this->*operand)());
    node.operators.push_back(op);
    node.operands.push_back(std::move(left));
    node.operands.push_back(std::move(right));
    TESSERA_ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

JinjaExpressionParser::Result JinjaExpressionParser::Sum() {
  return LeftAssociative(&JinjaExpressionParser::Concat, IsSum);
}

JinjaExpressionParser::Result JinjaExpressionParser::Concat() {
  JinjaExpression node = New(Node::kConcat);
  do {
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr operand, Product());
    node.operands.push_back(std::move(operand));
  } while (SkipOperator("~"));
  if (node.operands.size() == 1) return std::move(node.operands[0]);
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::Product() {
  return LeftAssociative(&JinjaExpressionParser::Power, IsProduct);
}

JinjaExpressionParser::Result JinjaExpressionParser::Power() {
  return LeftAssociative(&JinjaExpressionParser::Filtered, IsPower);
}

JinjaExpressionParser::Result JinjaExpressionParser::Filtered() {
  return Unary(/*with_filter=*/true);
}

JinjaExpressionParser::Result JinjaExpressionParser::Unary(bool with_filter) {
  JinjaExpressionPtr node;
  if (IsOperator("-") || IsOperator("+")) {
    JinjaExpression sign = New(IsOperator("-") ? Node::kNegate : Node::kPlus);
    Advance();
    TESSERA_RETURN_IF_ERROR(Enter());
    Result operand = Unary(/*with_filter=*/false);
    Leave();
    if (!operand.ok()) return operand;
    sign.operands.push_back(*std::move(operand));
    TESSERA_ASSIGN_OR_RETURN(node, Finish(std::move(sign)));
  } else {
    TESSERA_ASSIGN_OR_RETURN(node, Primary());
  }
  TESSERA_ASSIGN_OR_RETURN(node, Postfix(std::move(node)));
  return with_filter ? FilterExpression(std::move(node)) : Result(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::Primary() {
  JinjaExpression node = New(Node::kConstant);
  switch (Current().kind) {
    case Kind::kName:
      return Name();
    case Kind::kString: {
      ChatPrompt text;
      for (; Is(Kind::kString); Advance()) text.Literal(Current().text);
      node.value = JinjaValue::Of(std::move(text));
      return Finish(std::move(node));
    }
    case Kind::kInteger:
      node.value = JinjaValue(Current().integer);
      Advance();
      return Finish(std::move(node));
    case Kind::kFloat:
      node.value = JinjaValue(JinjaReal{Current().real});
      Advance();
      return Finish(std::move(node));
    default:
      break;
  }
  if (IsOperator("[")) return List();
  if (IsOperator("{")) return Dict();
  if (!IsOperator("(")) return Error(absl::StrCat("unexpected ", Describe(Current())));
  Advance();
  if (SkipOperator(")")) return Finish(New(Node::kTuple));
  TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr inner, Tuple());
  TESSERA_RETURN_IF_ERROR(ExpectOperator(")"));
  return inner;
}

JinjaExpressionParser::Result JinjaExpressionParser::Name() {
  JinjaExpression node = New(Node::kConstant);
  const std::string name = Current().text;
  Advance();
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node.value = JinjaValue(name == "true" || name == "True");
  } else if (name == "none" || name == "None") {
    node.value = JinjaValue(JinjaValue::None{});
  } else {
    node.kind = Node::kName;
    node.name = name;
    names_read.insert(name);
  }
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::List() {
  JinjaExpression node = New(Node::kList);
  Advance();
  while (!SkipOperator("]")) {
    if (!node.operands.empty()) TESSERA_RETURN_IF_ERROR(ExpectOperator(","));
    if (SkipOperator("]")) break;
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr item, Expression());
    node.operands.push_back(std::move(item));
  }
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::Dict() {
  JinjaExpression node = New(Node::kDict);
  Advance();
  while (!SkipOperator("}")) {
    if (!node.operands.empty()) TESSERA_RETURN_IF_ERROR(ExpectOperator(","));
    if (SkipOperator("}")) break;
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr key, Expression());
    TESSERA_RETURN_IF_ERROR(ExpectOperator(":"));
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr value, Expression());
    node.operands.push_back(std::move(key));
    node.operands.push_back(std::move(value));
  }
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::Postfix(JinjaExpressionPtr subject) {
  while (true) {
    if (IsOperator(".") || IsOperator("[")) {
      TESSERA_ASSIGN_OR_RETURN(subject, Subscript(std::move(subject)));
    } else if (IsOperator("(")) {
      TESSERA_ASSIGN_OR_RETURN(subject, Call(std::move(subject)));
    } else {
      return subject;
    }
  }
}

JinjaExpressionParser::Result JinjaExpressionParser::Subscript(JinjaExpressionPtr subject) {
  JinjaExpression node = New(Node::kItem);
  node.operands.push_back(std::move(subject));
  if (SkipOperator(".")) {
    if (Is(Kind::kInteger)) {
      TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr index, Primary());
      node.operands.push_back(std::move(index));
    } else {
      node.kind = Node::kAttribute;
      TESSERA_ASSIGN_OR_RETURN(node.name, ExpectName());
    }
    return Finish(std::move(node));
  }
  TESSERA_RETURN_IF_ERROR(ExpectOperator("["));
  for (int bound = 0; !IsOperator("]"); ++bound) {
    if (bound == 3) return Error("a slice has more than three parts");
    JinjaExpressionPtr part;
    if (!IsOperator(":")) {
      TESSERA_ASSIGN_OR_RETURN(part, Expression());
    }
    node.operands.push_back(std::move(part));
    if (!SkipOperator(":")) break;
    node.kind = Node::kSlice;
  }
  if (IsOperator(",")) return Unsupported("a subscript with commas");
  TESSERA_RETURN_IF_ERROR(ExpectOperator("]"));
  if (node.kind == Node::kSlice) node.operands.resize(4);
  if (node.operands.size() < 2) return Error("an empty subscript");
  return Finish(std::move(node));
}

absl::Status JinjaExpressionParser::AddArguments(JinjaExpression* node) {
  TESSERA_RETURN_IF_ERROR(ExpectOperator("("));
  for (bool is_first = true; !SkipOperator(")"); is_first = false) {
    if (!is_first) TESSERA_RETURN_IF_ERROR(ExpectOperator(","));
    if (SkipOperator(")")) break;
    if (IsOperator("*") || IsOperator("**")) return Unsupported("arguments unpacked from a value");
    if (Is(Kind::kName) && Next().kind == Kind::kOperator && Next().text == "=") {
      node->keywords.push_back(Current().text);
      Advance();
      Advance();
    } else if (!node->keywords.empty()) {
      return Error("an argument without a name follows one with a name");
    }
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr value, Expression());
    node->operands.push_back(std::move(value));
  }
  return absl::OkStatus();
}

JinjaExpressionParser::Result JinjaExpressionParser::Call(JinjaExpressionPtr callee) {
  JinjaExpression node = New(Node::kCall);
  if (callee->kind == Node::kAttribute && !IsJinjaMethod(callee->name)) {
    return Unsupported(absl::StrCat("the method ", Quoted(callee->name)));
  }
  node.operands.push_back(std::move(callee));
  TESSERA_RETURN_IF_ERROR(AddArguments(&node));
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::FilterExpression(JinjaExpressionPtr subject) {
  while (true) {
    if (IsOperator("|")) {
      TESSERA_ASSIGN_OR_RETURN(subject, Filter(std::move(subject)));
    } else if (IsName("is")) {
      TESSERA_ASSIGN_OR_RETURN(subject, Test(std::move(subject)));
    } else if (IsOperator("(")) {
      TESSERA_ASSIGN_OR_RETURN(subject, Call(std::move(subject)));
    } else {
      return subject;
    }
  }
}

JinjaExpressionParser::Result JinjaExpressionParser::Filters(JinjaExpressionPtr subject) {
  while (IsOperator("|")) {
    TESSERA_ASSIGN_OR_RETURN(subject, Filter(std::move(subject)));
  }
  return subject;
}

JinjaExpressionParser::Result JinjaExpressionParser::Filter(JinjaExpressionPtr subject) {
  Advance();
  JinjaExpression node = New(Node::kFilter);
  TESSERA_ASSIGN_OR_RETURN(node.name, ExpectName());
  if (!IsJinjaFilter(node.name)) {
    return Unsupported(absl::StrCat("the filter ", Quoted(node.name)));
  }
  node.operands.push_back(std::move(subject));
  if (IsOperator("(")) {
    TESSERA_RETURN_IF_ERROR(AddArguments(&node));
  }
  return Finish(std::move(node));
}

JinjaExpressionParser::Result JinjaExpressionParser::Test(JinjaExpressionPtr subject) {
  Advance();
  const bool is_negated = SkipName("not");
  JinjaExpression node = New(Node::kTest);
  TESSERA_ASSIGN_OR_RETURN(node.name, ExpectName());
  if (!IsJinjaTest(node.name)) return Unsupported(absl::StrCat("the test ", Quoted(node.name)));
  node.operands.push_back(std::move(subject));
  const bool has_operand = Is(Kind::kName) || Is(Kind::kString) || Is(Kind::kInteger) ||
                           Is(Kind::kFloat) || IsOperator("[") || IsOperator("{");
  if (IsOperator("(")) {
    TESSERA_RETURN_IF_ERROR(AddArguments(&node));
  } else if (IsName("is")) {
    return Error("tests cannot be chained");
  } else if (has_operand && !IsName("else") && !IsName("or") && !IsName("and")) {
    // As Jinja: "x is test if y" takes "if" for the test's operand, so conditions are no operand.
    TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr operand, Primary());
    TESSERA_ASSIGN_OR_RETURN(operand, Postfix(std::move(operand)));
    node.operands.push_back(std::move(operand));
  }
  TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr test, Finish(std::move(node)));
  if (!is_negated) return test;
  JinjaExpression negation = New(Node::kNot);
  negation.operands.push_back(std::move(test));
  return Finish(std::move(negation));
}

}  // namespace tessera::coordinator
