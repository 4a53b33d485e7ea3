#include "coordinator/grammar/json_rules.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/regex_cursor.h"

namespace tessera::coordinator::grammar {
namespace {

CharacterSet MustBeEscaped() {
  return CharacterSet::Of({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
}

NodeId Digits(Rules& rules, int64_t minimum, int64_t maximum) {
  return rules.Repeat(rules.Characters(CharacterSet::Of({{'0', '9'}})), minimum, maximum);
}

// "0", or up to `maximum` digits of which the first is not 0; a minus may stand before.
NodeId WholePart(Rules& rules, int64_t maximum) {
  const NodeId first = rules.Characters(CharacterSet::Of({{'1', '9'}}));
  return rules.Concat({rules.Words({"", "-"}),
                       rules.Alternatives({rules.Literal("0"),
                                           rules.Concat({first, Digits(rules, 0, maximum - 1)})})});
}

NodeId Hex(Rules& rules, int64_t count) {
  return rules.Repeat(rules.Characters(CharacterSet::Of({{'0', '9'}, {'a', 'f'}, {'A', 'F'}})),
                      count, count);
}

// \uXXXX of one character, surrogates in pairs only.
NodeId UnicodeEscape(Rules& rules) {
  const auto one_of = [&](std::initializer_list<CharacterRange> ranges) {
    return rules.Characters(CharacterSet::Of(ranges));
  };
  const NodeId start = rules.Literal("\\u");
  const NodeId d = one_of({{'d', 'd'}, {'D', 'D'}});
  const NodeId plain = rules.Concat(
      {one_of({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}), Hex(rules, 3)});
  const NodeId below_surrogates = rules.Concat({d, one_of({{'0', '7'}}), Hex(rules, 2)});
  const NodeId pair = rules.Concat({d, one_of({{'8', '9'}, {'a', 'b'}, {'A', 'B'}}), Hex(rules, 2),
                                    start, d, one_of({{'c', 'f'}, {'C', 'F'}}), Hex(rules, 2)});
  return rules.Concat({start, rules.Alternatives({plain, below_surrogates, pair})});
}

std::vector<uint32_t> CharactersOf(const std::string& utf8) {
  std::vector<uint32_t> characters;
  for (RegexCursor cursor(utf8); !cursor.at_end();) characters.push_back(cursor.Next());
  return characters;
}

// Names by their characters, to find where a key leaves all of them.
struct NameTrie {
  std::map<uint32_t, NameTrie> next;
  bool is_name = false;
  bool is_cut = false;  // names go on beyond the bound: no key does
};

// A text that follows one of the names so far, and ends as none of them.
NodeId OtherThan(const NameTrie& names, const CharacterSet& plain, Rules& rules) {
  if (names.is_cut) return rules.Nothing();
  CharacterSet leaving = plain;
  std::vector<NodeId> options;
  for (const auto& [character, rest] : names.next) {
    const CharacterSet one = CharacterSet::Of({{character, character}});
    leaving = leaving.Without(one);
    options.push_back(rules.Concat({rules.Characters(one), OtherThan(rest, plain, rules)}));
  }
  const NodeId anything = rules.Repeat(rules.Characters(plain), 0, kNoMaximum);
  options.push_back(rules.Concat({rules.Characters(leaving), anything}));
  if (!names.is_name) options.push_back(rules.Empty());
  return rules.Alternatives(std::move(options));
}

}  // namespace

NodeId WriteJsonCharacter(Rules& rules, const CharacterSet& characters) {
  std::vector<std::string> escapes;
  const CharacterSet escaped = MustBeEscaped();
  for (const CharacterRange& range : escaped.ranges()) {
    for (uint32_t c = range.first; c <= range.last; ++c) {
      if (!characters.Contains(c)) continue;
      switch (c) {
        case '"':
          escapes.emplace_back("\\\"");
          break;
        case '\\':
          escapes.emplace_back("\\\\");
          break;
        case '\b':
          escapes.emplace_back("\\b");
          break;
        case '\f':
          escapes.emplace_back("\\f");
          break;
        case '\n':
          escapes.emplace_back("\\n");
          break;
        case '\r':
          escapes.emplace_back("\\r");
          break;
        case '\t':
          escapes.emplace_back("\\t");
          break;
        default:
          escapes.push_back(absl::StrFormat("\\u%04x", c));
      }
    }
  }
  const NodeId plain = rules.Characters(characters.Without(escaped));
  if (escapes.empty()) return plain;
  return rules.Alternatives({plain, rules.Words(std::move(escapes))});
}

JsonRules::JsonRules(Rules& rules)
    : rules_(rules),
      comma_(rules.Words({",", ", "})),
      colon_(rules.Words({":", ": "})),
      character_(rules.Alternatives(
          {rules.Characters(MustBeEscaped().Complement()),
           rules.Words({"\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"}),
           UnicodeEscape(rules)})) {}

NodeId JsonRules::Quoted(NodeId content) {
  return rules_.Concat({rules_.Literal("\""), content, rules_.Literal("\"")});
}

NodeId JsonRules::String(int64_t minimum, int64_t maximum) {
  return Quoted(rules_.Repeat(character_, minimum, maximum));
}

NodeId JsonRules::Boolean() { return rules_.Words({"true", "false"}); }

NodeId JsonRules::Null() { return rules_.Literal("null"); }

NodeId JsonRules::Integer() { return WholePart(rules_, 18); }

NodeId JsonRules::Number() {
  const NodeId fraction = rules_.Concat({rules_.Literal("."), Digits(rules_, 1, 16)});
  const NodeId exponent =
      rules_.Concat({rules_.Words({"e", "e+", "e-", "E", "E+", "E-"}), Digits(rules_, 1, 2)});
  return rules_.Concat(
      {WholePart(rules_, 15), rules_.Optional(fraction), rules_.Optional(exponent)});
}

NodeId JsonRules::AnyValue() {
  if (any_value_ < 0) {
    any_value_ = rules_.AddRule();
    rules_.SetBody(any_value_, rules_.Alternatives({String(0, kNoMaximum), Number(), Boolean(),
                                                    Null(), AnyObject(), AnyArray()}));
  }
  return rules_.Call(any_value_);
}

NodeId JsonRules::Member(NodeId key, NodeId value) { return rules_.Concat({key, colon_, value}); }

NodeId JsonRules::AnyObject() {
  return rules_.Concat({rules_.Literal("{"),
                        rules_.Members({.items = {},
                                        .is_required = {},
                                        .separator = comma_,
                                        .extra = Member(String(0, kNoMaximum), AnyValue())}),
                        rules_.Literal("}")});
}

NodeId JsonRules::AnyArray() {
  const NodeId value = AnyValue();
  const NodeId rest = rules_.Repeat(rules_.Concat({comma_, value}), 0, kNoMaximum);
  return Array(rules_.Optional(rules_.Concat({value, rest})));
}

NodeId JsonRules::Array(NodeId items_with_separators) {
  return rules_.Concat({rules_.Literal("["), items_with_separators, rules_.Literal("]")});
}

NodeId JsonRules::KeyOtherThan(const std::vector<std::string>& names) {
  if (names.empty()) return String(0, kNoMaximum);
  const CharacterSet plain = MustBeEscaped().Complement();
  NameTrie trie;
  for (const std::string& name : names) {
    NameTrie* at = &trie;
    const std::vector<uint32_t> characters = CharactersOf(name);
    const size_t compared = std::min(characters.size(), kMaxNameCharacters);
    bool is_plain = true;
    for (size_t i = 0; i < compared && is_plain; ++i) {
      is_plain = plain.Contains(characters[i]);  // else no key without escapes is this name
      if (is_plain) at = &at->next[characters[i]];
    }
    if (is_plain) (compared < characters.size() ? at->is_cut : at->is_name) = true;
  }
  return Quoted(OtherThan(trie, plain, rules_));
}

}  // namespace tessera::coordinator::grammar
