#include "coordinator/text/jinja/parser.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/expression_parser.h"
#include "coordinator/text/jinja/lexer.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Kind = JinjaToken::Kind;
using Node = JinjaStatement::Kind;

class Parser {
 public:
  explicit Parser(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<JinjaSyntax> Run() {
    JinjaSyntax syntax;
    TESSERA_RETURN_IF_ERROR(Block({}, &syntax.body));
    syntax.names_read.assign(tokens_.names_read.begin(), tokens_.names_read.end());
    return syntax;
  }

 private:
  using Names = std::initializer_list<absl::string_view>;

  // Statements up to a tag that opens with one of `ends`, which is left standing behind its {%; an
  // empty list means the end of the template.
  absl::Status Block(Names ends, JinjaBlock* block) {
    TESSERA_RETURN_IF_ERROR(tokens_.Enter());
    while (!tokens_.Is(Kind::kEnd)) {
      if (tokens_.Is(Kind::kBlockBegin) && StandsAt(ends)) {
        tokens_.Advance();
        tokens_.Leave();
        return absl::OkStatus();
      }
      TESSERA_RETURN_IF_ERROR(Statement(block));
    }
    tokens_.Leave();
    if (ends.size() == 0) return absl::OkStatus();
    return tokens_.Error(absl::StrCat("the template ends before its '", *ends.begin(), "'"));
  }

  bool StandsAt(Names ends) const {
    return tokens_.Next().kind == Kind::kName &&
           std::any_of(ends.begin(), ends.end(),
                       [&](absl::string_view end) { return tokens_.Next().text == end; });
  }

  absl::Status Statement(JinjaBlock* block) {
    JinjaStatement statement{.kind = Node::kText, .line = tokens_.Current().line};
    if (tokens_.Is(Kind::kText)) {
      statement.text.Literal(tokens_.Current().text);
      tokens_.Advance();
    } else if (tokens_.Is(Kind::kOutputBegin)) {
      tokens_.Advance();
      statement.kind = Node::kOutput;
      TESSERA_ASSIGN_OR_RETURN(statement.expression, tokens_.Tuple());
      TESSERA_RETURN_IF_ERROR(Expect(Kind::kOutputEnd, "}}"));
    } else {
      tokens_.Advance();  // {%
      TESSERA_RETURN_IF_ERROR(Tag(&statement));
    }
    block->push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::Status Expect(Kind kind, absl::string_view what) {
    if (!tokens_.Is(kind)) {
      return tokens_.Error(
          absl::StrCat("expected '", what, "', found ", Quoted(tokens_.Current().text)));
    }
    tokens_.Advance();
    return absl::OkStatus();
  }

  absl::Status EndTag() { return Expect(Kind::kBlockEnd, "%}"); }

  absl::Status Tag(JinjaStatement* statement) {
    TESSERA_ASSIGN_OR_RETURN(const std::string tag, tokens_.ExpectName());
    if (tag == "if") return If(statement);
    if (tag == "for") return For(statement);
    if (tag == "set") return Set(statement);
    if (tag == "macro") return Macro(statement);
    if (tag == "with") return With(statement);
    if (tag == "generation") return Generation(statement);
    if (tag == "break" || tag == "continue") {
      statement->kind = tag == "break" ? Node::kBreak : Node::kContinue;
      if (loop_depth_ == 0) return tokens_.Error(absl::StrCat("'", tag, "' outside of a loop"));
      return EndTag();
    }
    for (const absl::string_view known :
         {"block", "extends", "include", "import", "from", "call", "filter", "autoescape", "print",
          "do", "trans", "debug"}) {
      if (tag == known) return tokens_.Unsupported(absl::StrCat("the statement '", tag, "'"));
    }
    return tokens_.Error(absl::StrCat("unexpected tag ", Quoted(tag)));
  }

  // Behind "if" or "elif".
  absl::Status If(JinjaStatement* statement) {
    statement->kind = Node::kIf;
    TESSERA_ASSIGN_OR_RETURN(statement->expression, tokens_.Tuple(/*with_condition=*/false));
    TESSERA_RETURN_IF_ERROR(EndTag());
    TESSERA_RETURN_IF_ERROR(Block({"endif", "else", "elif"}, &statement->body));
    TESSERA_ASSIGN_OR_RETURN(const std::string end, tokens_.ExpectName());
    if (end == "elif") {
      TESSERA_RETURN_IF_ERROR(tokens_.Enter());
      JinjaStatement otherwise{.kind = Node::kIf, .line = tokens_.Current().line};
      TESSERA_RETURN_IF_ERROR(If(&otherwise));
      tokens_.Leave();
      statement->otherwise.push_back(std::move(otherwise));
      return absl::OkStatus();
    }
    TESSERA_RETURN_IF_ERROR(EndTag());
    return end == "else" ? Rest("endif", &statement->otherwise) : absl::OkStatus();
  }

  // A block and the whole tag `end` behind it.
  absl::Status Rest(absl::string_view end, JinjaBlock* block) {
    TESSERA_RETURN_IF_ERROR(Block({end}, block));
    tokens_.Advance();  // the name of the end
    return EndTag();
  }

  absl::Status For(JinjaStatement* statement) {
    statement->kind = Node::kFor;
    TESSERA_ASSIGN_OR_RETURN(statement->target, Target("in"));
    if (!statement->target.attribute.empty()) {
      return tokens_.Error("a loop cannot assign to an attribute");
    }
    if (!tokens_.SkipName("in")) return tokens_.Error("expected 'in'");
    TESSERA_ASSIGN_OR_RETURN(statement->expression,
                             tokens_.Tuple(/*with_condition=*/false, "recursive"));
    if (tokens_.SkipName("if")) {
      TESSERA_ASSIGN_OR_RETURN(statement->filter, tokens_.Expression());
    }
    if (tokens_.IsName("recursive")) return tokens_.Unsupported("a recursive loop");
    TESSERA_RETURN_IF_ERROR(EndTag());
    ++loop_depth_;
    TESSERA_RETURN_IF_ERROR(Block({"endfor", "else"}, &statement->body));
    --loop_depth_;
    TESSERA_ASSIGN_OR_RETURN(const std::string end, tokens_.ExpectName());
    TESSERA_RETURN_IF_ERROR(EndTag());
    return end == "else" ? Rest("endfor", &statement->otherwise) : absl::OkStatus();
  }

  // name, name.attribute, or names with commas between, before the name or operator `end`.
  absl::StatusOr<JinjaTarget> Target(absl::string_view end) {
    JinjaTarget target;
    const bool in_parentheses = tokens_.SkipOperator("(");
    while (true) {
      TESSERA_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
      target.names.push_back(std::move(name));
      if (tokens_.SkipOperator(".")) {
        TESSERA_ASSIGN_OR_RETURN(target.attribute, tokens_.ExpectName());
        if (target.attribute.front() == '_') {
          return tokens_.Error("a namespace's attribute may not begin with '_'");
        }
      }
      if (!tokens_.SkipOperator(",")) break;
      target.unpacks = true;
      if (tokens_.IsName(end) || tokens_.IsOperator(end) || tokens_.IsOperator(")")) break;
    }
    if (in_parentheses) TESSERA_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    if (target.unpacks && !target.attribute.empty()) {
      return tokens_.Unsupported("unpacking into attributes");
    }
    return target;
  }

  absl::Status Set(JinjaStatement* statement) {
    TESSERA_ASSIGN_OR_RETURN(statement->target, Target("="));
    if (tokens_.SkipOperator("=")) {
      statement->kind = Node::kSet;
      TESSERA_ASSIGN_OR_RETURN(statement->expression, tokens_.Tuple());
      return EndTag();
    }
    statement->kind = Node::kSetBlock;
    auto text = std::make_unique<const JinjaExpression>(
        JinjaExpression{.kind = JinjaExpression::Kind::kBlockText, .line = statement->line});
    TESSERA_ASSIGN_OR_RETURN(statement->expression, tokens_.Filters(std::move(text)));
    TESSERA_RETURN_IF_ERROR(EndTag());
    return ScopedRest("endset", &statement->body);
  }

  // As Rest, for a body that no macro may be defined in: macros see the template's own variables.
  absl::Status ScopedRest(absl::string_view end, JinjaBlock* body) {
    ++scope_depth_;
    absl::Status status = Rest(end, body);
    --scope_depth_;
    return status;
  }

  absl::Status Macro(JinjaStatement* statement) {
    statement->kind = Node::kMacro;
    if (loop_depth_ > 0 || scope_depth_ > 0) {
      return tokens_.Unsupported("a macro defined inside of another statement's scope");
    }
    auto macro = std::make_shared<JinjaMacro>();
    TESSERA_ASSIGN_OR_RETURN(macro->name, tokens_.ExpectName());
    TESSERA_RETURN_IF_ERROR(Parameters(&macro->parameters));
    TESSERA_RETURN_IF_ERROR(EndTag());
    TESSERA_RETURN_IF_ERROR(ScopedRest("endmacro", &macro->body));
    statement->macro = std::move(macro);
    return absl::OkStatus();
  }

  absl::Status Parameters(std::vector<JinjaParameter>* parameters) {
    TESSERA_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
    while (!tokens_.SkipOperator(")")) {
      if (!parameters->empty()) TESSERA_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
      if (tokens_.SkipOperator(")")) break;
      TESSERA_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
      JinjaExpressionPtr value;
      if (tokens_.SkipOperator("=")) {
        TESSERA_ASSIGN_OR_RETURN(value, tokens_.Expression());
      }
      parameters->push_back({std::move(name), std::move(value)});
    }
    return absl::OkStatus();
  }

  absl::Status With(JinjaStatement* statement) {
    statement->kind = Node::kWith;
    while (!tokens_.Is(Kind::kBlockEnd)) {
      if (!statement->parameters.empty()) TESSERA_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
      TESSERA_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
      TESSERA_RETURN_IF_ERROR(tokens_.ExpectOperator("="));
      TESSERA_ASSIGN_OR_RETURN(JinjaExpressionPtr value, tokens_.Expression());
      statement->parameters.push_back({std::move(name), std::move(value)});
    }
    TESSERA_RETURN_IF_ERROR(EndTag());
    return ScopedRest("endwith", &statement->body);
  }

  absl::Status Generation(JinjaStatement* statement) {
    statement->kind = Node::kScope;
    TESSERA_RETURN_IF_ERROR(EndTag());
    return ScopedRest("endgeneration", &statement->body);
  }

  JinjaExpressionParser tokens_;
  int loop_depth_ = 0;
  int scope_depth_ = 0;
};

}  // namespace

absl::StatusOr<JinjaSyntax> ParseJinja(absl::string_view source) {
  TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaToken> tokens, LexJinja(source));
  std::vector<std::string> literals;
  for (const JinjaToken& token : tokens) {
    if (token.kind == Kind::kString) literals.push_back(token.text);
  }
  std::sort(literals.begin(), literals.end());
  literals.erase(std::unique(literals.begin(), literals.end()), literals.end());
  TESSERA_ASSIGN_OR_RETURN(JinjaSyntax syntax, Parser(std::move(tokens)).Run());
  syntax.literals = std::move(literals);
  return syntax;
}

}  // namespace tessera::coordinator
