#include "coordinator/grammar/regex.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/regex_cursor.h"
#include "coordinator/grammar/regex_escape.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator::grammar {
namespace {

class RegexParser {
 public:
  RegexParser(absl::string_view pattern, const RegexOptions& options, Rules& rules)
      : cursor_(pattern), options_(options), rules_(rules) {}

  absl::StatusOr<NodeId> Parse() {
    TESSERA_ASSIGN_OR_RETURN(const NodeId root, ParseAlternatives());
    if (!cursor_.at_end()) return cursor_.Error(cursor_.offset(), "')' closes no group");
    return root;
  }

 private:
  absl::StatusOr<NodeId> ParseAlternatives() {
    std::vector<NodeId> options;
    do {
      TESSERA_ASSIGN_OR_RETURN(const NodeId option, ParseSequence());
      options.push_back(option);
    } while (cursor_.Take('|'));
    return rules_.Alternatives(std::move(options));
  }

  bool AtEndOfSequence() const {
    return cursor_.at_end() || cursor_.Peek() == '|' || cursor_.Peek() == ')';
  }

  absl::StatusOr<NodeId> ParseSequence() {
    std::vector<NodeId> parts;
    const bool is_outermost = open_groups_ == 0;
    const bool from_start = is_outermost && cursor_.Take('^');
    bool to_end = false;
    if (is_outermost && options_.is_search && !from_start) parts.push_back(Anything());
    while (!AtEndOfSequence()) {
      const size_t offset = cursor_.offset();
      if (cursor_.Take('$')) {
        if (!is_outermost || !AtEndOfSequence()) {
          return cursor_.Error(offset, "'$' is supported only at the end");
        }
        to_end = true;
        break;
      }
      TESSERA_RETURN_IF_ERROR(rules_.status());
      TESSERA_ASSIGN_OR_RETURN(const NodeId atom, ParseAtom());
      TESSERA_ASSIGN_OR_RETURN(const NodeId part, ParseQuantifier(atom));
      parts.push_back(part);
    }
    if (is_outermost && options_.is_search && !to_end) parts.push_back(Anything());
    return rules_.Concat(std::move(parts));
  }

  NodeId Anything() { return rules_.Repeat(Write(CharacterSet::All()), 0, kNoMaximum); }

  NodeId Write(CharacterSet characters) {
    return options_.write ? options_.write(rules_, std::move(characters))
                          : rules_.Characters(std::move(characters));
  }

  absl::StatusOr<NodeId> ParseAtom() {
    const size_t offset = cursor_.offset();
    const uint32_t character = cursor_.Next();
    switch (character) {
      case '(':
        return ParseGroup(offset);
      case '[': {
        TESSERA_ASSIGN_OR_RETURN(CharacterSet set, ParseClass(cursor_, offset));
        return Write(std::move(set));
      }
      case '.':
        return Write(CharacterSet::Of({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}).Complement());
      case '\\': {
        TESSERA_ASSIGN_OR_RETURN(Escape escape, ParseEscape(cursor_, offset, false));
        return Write(std::move(escape.set));
      }
      case '^':
        return cursor_.Error(offset, "'^' is supported only at the start");
      case '*':
      case '+':
      case '?':
        return cursor_.Error(offset, "there is nothing to repeat");
      case '{':
        if (!cursor_.at_end() && absl::ascii_isdigit(static_cast<uint8_t>(cursor_.Peek()))) {
          return cursor_.Error(offset, "there is nothing to repeat");
        }
        break;
      default:
        break;
    }
    return Write(CharacterSet::Of({{character, character}}));
  }

  absl::StatusOr<NodeId> ParseGroup(size_t offset) {
    if (++open_groups_ > kMaxRegexGroups) {
      return cursor_.Error(offset, absl::StrCat("groups nest deeper than ", kMaxRegexGroups));
    }
    TESSERA_RETURN_IF_ERROR(ReadGroupKind(offset));
    TESSERA_ASSIGN_OR_RETURN(const NodeId inner, ParseAlternatives());
    if (!cursor_.Take(')')) return cursor_.Error(offset, "the group is not closed");
    --open_groups_;
    return inner;
  }

  // Behind "(": "?:", "?P<name>", "?<name>" or nothing.
  absl::Status ReadGroupKind(size_t offset) {
    if (!cursor_.Take('?')) return absl::OkStatus();
    if (cursor_.Take(':')) return absl::OkStatus();
    cursor_.Take('P');
    if (!cursor_.Take('<') || cursor_.at_end()) {
      return cursor_.Error(offset, "look-ahead, flags and other (?...) groups are not supported");
    }
    if (cursor_.Peek() == '=' || cursor_.Peek() == '!') {
      return cursor_.Error(offset, "look-behind is not supported");
    }
    while (!cursor_.at_end()) {
      if (cursor_.Next() == '>') return absl::OkStatus();
    }
    return cursor_.Error(offset, "the group's name is not closed");
  }

  struct Count {
    int64_t minimum;
    int64_t maximum;
  };

  absl::StatusOr<NodeId> ParseQuantifier(NodeId atom) {
    const size_t offset = cursor_.offset();
    TESSERA_ASSIGN_OR_RETURN(const std::optional<Count> count, ParseCount(offset));
    if (!count) return atom;
    if (cursor_.Take('+')) return cursor_.Error(offset, "possessive repeats are not supported");
    cursor_.Take('?');  // lazy: which match is found first makes no difference here
    const size_t next = cursor_.offset();
    TESSERA_ASSIGN_OR_RETURN(const std::optional<Count> second, ParseCount(next));
    if (second) return cursor_.Error(next, "repeats a repeat; put the first into a group");
    return rules_.Repeat(atom, count->minimum, count->maximum);
  }

  absl::StatusOr<std::optional<Count>> ParseCount(size_t offset) {
    if (cursor_.Take('*')) return Count{0, kNoMaximum};
    if (cursor_.Take('+')) return Count{1, kNoMaximum};
    if (cursor_.Take('?')) return Count{0, 1};
    if (!cursor_.AtBraceWithDigit()) return std::nullopt;
    cursor_.Next();
    Count count;
    TESSERA_ASSIGN_OR_RETURN(count.minimum, ParseNumber(offset));
    count.maximum = count.minimum;
    if (cursor_.Take(',')) {
      count.maximum = kNoMaximum;
      if (!cursor_.at_end() && cursor_.Peek() != '}') {
        TESSERA_ASSIGN_OR_RETURN(count.maximum, ParseNumber(offset));
      }
    }
    if (!cursor_.Take('}')) return cursor_.Error(offset, "expected {m}, {m,} or {m,n}");
    if (count.maximum != kNoMaximum && count.maximum < count.minimum) {
      return cursor_.Error(offset, "the smaller count comes first");
    }
    return count;
  }

  absl::StatusOr<int64_t> ParseNumber(size_t offset) {
    int64_t value = 0;
    bool has_digits = false;
    while (!cursor_.at_end() && cursor_.Peek() >= '0' && cursor_.Peek() <= '9') {
      has_digits = true;
      value = value * 10 + (cursor_.Next() - '0');
      if (value > kMaxRepeatCount) {
        return cursor_.Error(offset, absl::StrCat("repeats more than ", kMaxRepeatCount, " times"));
      }
    }
    if (!has_digits) return cursor_.Error(offset, "expected {m}, {m,} or {m,n}");
    return value;
  }

  RegexCursor cursor_;
  const RegexOptions& options_;
  Rules& rules_;
  int open_groups_ = 0;
};

}  // namespace

absl::StatusOr<NodeId> ParseRegex(absl::string_view pattern, const RegexOptions& options,
                                  Rules& rules) {
  if (SanitizeUtf8(pattern) != pattern) {
    return absl::InvalidArgumentError("is not valid UTF-8");
  }
  return RegexParser(pattern, options, rules).Parse();
}

}  // namespace tessera::coordinator::grammar
