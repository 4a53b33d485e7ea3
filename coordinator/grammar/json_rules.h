// The text of JSON values as rules: compact, but for at most one space behind ':' and ','. There is
// no endless part but the characters of a string, so a model cannot loop on white space or digits.
//
//   JsonRules json(rules);
//   rules.set_root(json.AnyObject());
#ifndef TESSERA_COORDINATOR_GRAMMAR_JSON_RULES_H_
#define TESSERA_COORDINATOR_GRAMMAR_JSON_RULES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

// A character of a string as JSON writes it: itself, or escaped where it has to be.
NodeId WriteJsonCharacter(Rules& rules, const CharacterSet& characters);

class JsonRules {
 public:
  // `rules` must outlive the object.
  explicit JsonRules(Rules& rules);

  NodeId Comma() const { return comma_; }  // with or without a space behind it
  NodeId Colon() const { return colon_; }
  // In quotes, lengths in characters; any escape that JSON has. maximum may be kNoMaximum.
  NodeId String(int64_t minimum, int64_t maximum);
  NodeId Quoted(NodeId content);
  NodeId Boolean();
  NodeId Null();
  // At most 15 digits, 16 behind the point and two of an exponent: always within a double.
  NodeId Number();
  NodeId Integer();  // at most 18 digits
  NodeId AnyValue();
  NodeId AnyObject();
  NodeId AnyArray();
  // A string in quotes, without escapes, that is none of `names`.
  NodeId KeyOtherThan(const std::vector<std::string>& names);
  // "[]", or items separated by commas.
  NodeId Array(NodeId items_with_separators);

 private:
  NodeId Member(NodeId key, NodeId value);

  Rules& rules_;
  NodeId comma_, colon_;
  NodeId character_;     // of a string, with all escapes
  RuleId any_value_ = -1;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_JSON_RULES_H_
