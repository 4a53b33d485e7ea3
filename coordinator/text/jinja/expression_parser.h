// The parser's lower half: tokens → one expression. For jinja_parser.cc.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_EXPRESSION_PARSER_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_EXPRESSION_PARSER_H_

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/jinja/lexer.h"
#include "coordinator/text/jinja/syntax.h"

namespace tessera::coordinator {

class JinjaExpressionParser {
 public:
  // `tokens` ends with kEnd.
  explicit JinjaExpressionParser(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  // One expression; with `with_condition` it may be "a if b else c". Several with commas between
  // are a tuple, which ends before the name `end` too.
  absl::StatusOr<JinjaExpressionPtr> Expression(bool with_condition = true);
  absl::StatusOr<JinjaExpressionPtr> Tuple(bool with_condition = true, absl::string_view end = "");
  // | name(...) | ... behind `subject`.
  absl::StatusOr<JinjaExpressionPtr> Filters(JinjaExpressionPtr subject);

  const JinjaToken& Current() const { return tokens_[pos_]; }
  const JinjaToken& Next() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  void Advance() { pos_ += pos_ + 1 < tokens_.size() ? 1 : 0; }
  bool Is(JinjaToken::Kind kind) const { return Current().kind == kind; }
  bool Is(JinjaToken::Kind kind, absl::string_view text) const {
    return Is(kind) && Current().text == text;
  }
  bool IsName(absl::string_view name) const { return Is(JinjaToken::Kind::kName, name); }
  bool IsOperator(absl::string_view op) const { return Is(JinjaToken::Kind::kOperator, op); }
  bool SkipName(absl::string_view name);
  bool SkipOperator(absl::string_view op);
  absl::Status ExpectOperator(absl::string_view op);
  absl::StatusOr<std::string> ExpectName();

  absl::Status Error(absl::string_view what) const;        // INVALID_ARGUMENT
  absl::Status Unsupported(absl::string_view what) const;  // UNIMPLEMENTED
  // One level further in; INVALID_ARGUMENT past kMaxParserNesting.
  absl::Status Enter();
  void Leave() { --nesting_; }

  std::set<std::string> names_read;

 private:
  using Result = absl::StatusOr<JinjaExpressionPtr>;

  Result Conditional();
  Result Or();
  Result And();
  Result Not();
  Result Compare();
  Result Sum();
  Result Concat();
  Result Product();
  Result Power();
  Result Filtered();
  Result Unary(bool with_filter);
  Result Primary();
  Result Name();
  Result List();
  Result Dict();
  Result Postfix(JinjaExpressionPtr subject);
  Result Subscript(JinjaExpressionPtr subject);
  Result Call(JinjaExpressionPtr callee);
  Result FilterExpression(JinjaExpressionPtr subject);
  Result Filter(JinjaExpressionPtr subject);
  Result Test(JinjaExpressionPtr subject);
  // operand word operand word ...
  Result Logic(JinjaExpression::Kind kind, absl::string_view word,
               Result (JinjaExpressionParser::*operand)());
  Result LeftAssociative(Result (JinjaExpressionParser::*operand)(),
                         bool (*is_operator)(const JinjaToken&, JinjaOperator*));
  // "(a, b, name=c)" behind the operands that `node` has.
  absl::Status AddArguments(JinjaExpression* node);

  // Takes the operands' depth; INVALID_ARGUMENT where the tree gets too deep.
  Result Finish(JinjaExpression expression) const;
  JinjaExpression New(JinjaExpression::Kind kind) const;

  const std::vector<JinjaToken> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_EXPRESSION_PARSER_H_
