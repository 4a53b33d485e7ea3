// The syntax tree of a chat template. Built by ParseJinja, immutable afterwards.
//
// Trees are no deeper than kMaxSyntaxDepth, so that walks and destructors may recurse.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_SYNTAX_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_SYNTAX_H_

#include <memory>
#include <string>
#include <vector>

#include "coordinator/text/jinja/value.h"

namespace tessera::coordinator {

inline constexpr int kMaxSyntaxDepth = 200;   // of an expression's tree: a + b + c is 3 deep
inline constexpr int kMaxParserNesting = 80;  // of brackets, blocks and elifs in each other

struct JinjaExpression;
using JinjaExpressionPtr = std::unique_ptr<const JinjaExpression>;

enum class JinjaOperator {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct JinjaExpression {
  enum class Kind {
    kConstant,     // value
    kName,         // name
    kList,         // operands
    kTuple,        // operands
    kDict,         // operands: key, value, key, value, ...
    kAttribute,    // operands[0] . name
    kItem,         // operands[0] [ operands[1] ]
    kSlice,        // operands[0] [ operands[1] : operands[2] : operands[3] ], the bounds maybe null
    kCall,         // operands[0] ( the rest )
    kFilter,       // operands[0] | name ( the rest )
    kTest,         // operands[0] is name ( the rest )
    kNegate,       // - operands[0]
    kPlus,         // + operands[0]
    kNot,          // not operands[0]
    kAnd,          // operands[0] and operands[1]
    kOr,           // operands[0] or operands[1]
    kArithmetic,   // operands[0] operators[0] operands[1]
    kConcat,       // operands[0] ~ operands[1] ~ ...
    kCompare,      // operands[0] operators[0] operands[1] operators[1] operands[2] ...
    kConditional,  // operands[1] if operands[0] else operands[2], the last maybe null
    kBlockText,    // what a {% set x | filter %} block wrote
  } kind;
  int line = 0;
  int depth = 1;
  std::string name = {};
  JinjaValue value = {};
  std::vector<JinjaExpressionPtr> operands = {};
  std::vector<JinjaOperator> operators = {};
  // kCall, kFilter, kTest: the names of the last keywords.size() operands.
  std::vector<std::string> keywords = {};
};

// What {% set %} and {% for %} assign to: one name, a namespace's attribute, or names to unpack to.
struct JinjaTarget {
  std::vector<std::string> names;
  std::string attribute = {};  // of names[0]
  bool unpacks = false;
};

struct JinjaParameter {
  std::string name;
  JinjaExpressionPtr value;  // a macro's default (may be null), or what {% with %} binds
};

struct JinjaStatement;
using JinjaBlock = std::vector<JinjaStatement>;

struct JinjaMacro;

struct JinjaStatement {
  enum class Kind {
    kText,      // text
    kOutput,    // {{ expression }}
    kIf,        // expression, body, otherwise
    kFor,       // target, expression, filter (may be null), body, otherwise
    kSet,       // target, expression
    kSetBlock,  // target, expression (a filter of kBlockText, or kBlockText itself), body
    kMacro,     // macro
    kWith,      // parameters, body
    kScope,     // body, in a scope of its own: {% generation %}
    kBreak,
    kContinue,
  } kind;
  int line = 0;
  ChatPrompt text = {};
  JinjaExpressionPtr expression = nullptr;
  JinjaExpressionPtr filter = nullptr;
  JinjaTarget target = {};
  std::vector<JinjaParameter> parameters = {};
  JinjaBlock body = {};
  JinjaBlock otherwise = {};
  std::shared_ptr<const JinjaMacro> macro = nullptr;
};

struct JinjaMacro {
  std::string name;
  std::vector<JinjaParameter> parameters;
  JinjaBlock body;
};

struct JinjaSyntax {
  JinjaBlock body;
  std::vector<std::string> names_read;  // every name an expression reads, sorted, once each
  std::vector<std::string> literals;    // every string literal, sorted, once each
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_SYNTAX_H_
