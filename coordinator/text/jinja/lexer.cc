#include "coordinator/text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "coordinator/text/python_strip.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Kind = JinjaToken::Kind;

// The longest first, as they are matched.
constexpr std::array<absl::string_view, 25> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
bool IsNamePart(char c) { return absl::ascii_isalnum(c) || c == '_'; }

void AppendUtf8(uint32_t c, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    tail(12), tail(6), tail(0);
  }
}

// "\r\n" and "\r" → "\n"; one line break at the end is dropped.
std::string NormalizeLines(absl::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 >= source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

size_t WhiteSpaceAtFront(absl::string_view text) {
  // PythonStrip cuts both ends: the length in front is what is left out before the first byte kept.
  const absl::string_view kept = PythonStrip(text);
  return kept.empty() ? text.size() : static_cast<size_t>(kept.data() - text.data());
}

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : source_(NormalizeLines(source)) {}

  absl::StatusOr<std::vector<JinjaToken>> Run() {
    while (pos_ < source_.size()) TESSERA_RETURN_IF_ERROR(TextAndTag());
    Add(Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  absl::string_view Rest() const { return absl::string_view(source_).substr(pos_); }

  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", what));
  }

  void Add(Kind kind, std::string text = {}) {
    JinjaToken& token = tokens_.emplace_back();
    token.kind = kind;
    token.text = std::move(text);
    token.line = line_;
  }

  void Advance(size_t bytes) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(pos_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<std::ptrdiff_t>(bytes), '\n'));
    if (bytes > 0) line_starting_ = source_[pos_ + bytes - 1] == '\n';
    pos_ += bytes;
  }

  size_t FindTag() const {
    for (size_t at = pos_; (at = source_.find('{', at)) != source_.npos; ++at) {
      if (at + 1 >= source_.size()) break;
      const char next = source_[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return source_.npos;
  }

  // The text before a tag that opens with `sign` behind its two characters.
  absl::string_view Stripped(absl::string_view text, char sign, bool is_output) const {
    if (sign == '-') return StripRightSpace(text);
    if (sign == '+' || is_output) return text;
    const size_t newline = text.rfind('\n');
    if (newline == text.npos && !line_starting_) return text;
    const size_t line_begin = newline == text.npos ? 0 : newline + 1;
    const absl::string_view indent = text.substr(line_begin);
    return WhiteSpaceAtFront(indent) == indent.size() ? text.substr(0, line_begin) : text;
  }

  static absl::string_view StripRightSpace(absl::string_view text) {
    const absl::string_view kept = PythonStrip(text);
    if (kept.empty()) return {};
    return text.substr(0, static_cast<size_t>(kept.data() - text.data()) + kept.size());
  }

  absl::Status TextAndTag() {
    const size_t tag = FindTag();
    if (tag == source_.npos) {
      Add(Kind::kText, std::string(Rest()));
      Advance(source_.size() - pos_);
      return absl::OkStatus();
    }
    const char type = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    const absl::string_view text =
        Stripped(absl::string_view(source_).substr(pos_, tag - pos_), sign, type == '{');
    if (!text.empty()) Add(Kind::kText, std::string(text));
    Advance(tag - pos_ + (has_sign ? 3 : 2));
    if (type == '#') return Comment();
    if (type == '%' && IsRaw()) return Raw();
    Add(type == '{' ? Kind::kOutputBegin : Kind::kBlockBegin);
    return Tag(type == '{' ? '}' : '%');
  }

  // Behind the `closer` + '}' that ends a tag: white space as the sign says.
  void EndTag(char sign, bool trims_line) {
    Advance(sign == '-' || sign == '+' ? 3 : 2);
    if (sign == '-') {
      Advance(WhiteSpaceAtFront(Rest()));
    } else if (sign != '+' && trims_line && absl::StartsWith(Rest(), "\n")) {
      Advance(1);
    }
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", pos_);
    if (end == source_.npos) return Error("a comment does not end");
    const char before = end > pos_ ? source_[end - 1] : '\0';
    const char sign = before == '-' || before == '+' ? before : '\0';
    Advance(end - pos_ - (sign == '\0' ? 0 : 1));
    EndTag(sign, /*trims_line=*/true);
    return absl::OkStatus();
  }

  // {% raw %} right behind the opening; advances past it if so.
  bool IsRaw() {
    absl::string_view rest = absl::StripLeadingAsciiWhitespace(Rest());
    if (!absl::ConsumePrefix(&rest, "raw")) return false;
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (!absl::StartsWith(rest, "%}") && !absl::StartsWith(rest, "-%}")) return false;
    Advance(static_cast<size_t>(rest.data() - Rest().data()));
    const char sign = rest.front() == '-' ? '-' : '\0';
    EndTag(sign, /*trims_line=*/false);
    return true;
  }

  absl::Status Raw() {
    for (size_t at = pos_; (at = source_.find("{%", at)) != source_.npos; ++at) {
      absl::string_view rest = absl::string_view(source_).substr(at + 2);
      char sign = '\0';
      if (absl::StartsWith(rest, "-") || absl::StartsWith(rest, "+")) {
        sign = rest.front();
        rest.remove_prefix(1);
      }
      rest = absl::StripLeadingAsciiWhitespace(rest);
      if (!absl::ConsumePrefix(&rest, "endraw")) continue;
      rest = absl::StripLeadingAsciiWhitespace(rest);
      const char end_sign = rest.empty() ? '\0' : rest.front();
      if (!absl::StartsWith(rest, "%}") && !absl::StartsWith(rest, "-%}") &&
          !absl::StartsWith(rest, "+%}")) {
        continue;
      }
      Add(Kind::kText,
          std::string(Stripped(absl::string_view(source_).substr(pos_, at - pos_), sign, false)));
      Advance(static_cast<size_t>(rest.data() - Rest().data()));
      EndTag(end_sign == '%' ? '\0' : end_sign, /*trims_line=*/true);
      return absl::OkStatus();
    }
    return Error("a raw block does not end");
  }

  // The sign of the tag's end standing here ('\0': without one), if it is one.
  std::optional<char> TagEnd(char closer) const {
    const absl::string_view rest = Rest();
    const std::array<char, 2> end = {closer, '}'};
    const absl::string_view ending(end.data(), end.size());
    if (absl::StartsWith(rest, ending)) return '\0';
    if (rest.size() < 3 || rest.substr(1, 2) != ending) return std::nullopt;
    if (rest[0] == '-' || (rest[0] == '+' && closer == '%')) return rest[0];
    return std::nullopt;
  }

  absl::Status Tag(char closer) {
    std::string open_brackets;
    while (pos_ < source_.size()) {
      if (open_brackets.empty()) {
        if (const std::optional<char> sign = TagEnd(closer)) {
          Add(closer == '}' ? Kind::kOutputEnd : Kind::kBlockEnd);
          EndTag(*sign, /*trims_line=*/closer == '%');
          return absl::OkStatus();
        }
      }
      const char c = source_[pos_];
      if (absl::ascii_isspace(c)) {
        Advance(1);
      } else if (absl::ascii_isdigit(c)) {
        TESSERA_RETURN_IF_ERROR(Number());
      } else if (IsNameStart(c)) {
        Name();
      } else if (c == '\'' || c == '"') {
        TESSERA_RETURN_IF_ERROR(String(c));
      } else {
        TESSERA_RETURN_IF_ERROR(Operator(open_brackets));
      }
    }
    return Error("a tag does not end");
  }

  void Name() {
    size_t length = 1;
    while (pos_ + length < source_.size() && IsNamePart(source_[pos_ + length])) ++length;
    Add(Kind::kName, source_.substr(pos_, length));
    Advance(length);
  }

  size_t DigitsAt(size_t pos) const {
    size_t end = pos;
    while (end < source_.size() && absl::ascii_isdigit(source_[end])) ++end;
    return end - pos;
  }

  absl::Status Number() {
    const size_t whole = DigitsAt(pos_);
    size_t length = whole;
    if (pos_ + length + 1 < source_.size() && source_[pos_ + length] == '.') {
      const size_t fraction = DigitsAt(pos_ + length + 1);
      if (fraction > 0) length += 1 + fraction;
    }
    if (pos_ + length < source_.size() && (source_[pos_ + length] | 0x20) == 'e') {
      size_t exponent = 1;
      const char sign = pos_ + length + 1 < source_.size() ? source_[pos_ + length + 1] : '\0';
      if (sign == '+' || sign == '-') ++exponent;
      const size_t digits = DigitsAt(pos_ + length + exponent);
      if (digits > 0) length += exponent + digits;
    }
    if (pos_ + length < source_.size() && IsNamePart(source_[pos_ + length])) {
      return Error("a number in a notation that is not known here");
    }
    const std::string text = source_.substr(pos_, length);
    Add(length == whole ? Kind::kInteger : Kind::kFloat, text);
    JinjaToken& token = tokens_.back();
    if (token.kind == Kind::kInteger) {
      if (!absl::SimpleAtoi(text, &token.integer)) return Error("an integer past 64 bits");
    } else if (!absl::SimpleAtod(text, &token.real)) {
      return Error("a malformed number");
    }
    Advance(length);
    return absl::OkStatus();
  }

  absl::Status Operator(std::string& open_brackets) {
    const auto found = std::find_if(kOperators.begin(), kOperators.end(), [&](auto candidate) {
      return absl::StartsWith(Rest(), candidate);
    });
    if (found == kOperators.end()) {
      return Error(absl::StrCat("unexpected ", Quoted(Rest().substr(0, 1))));
    }
    const char c = found->front();
    if (c == '(' || c == '[' || c == '{') open_brackets += c;
    if (c == ')' || c == ']' || c == '}') {
      const char opening = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open_brackets.empty() || open_brackets.back() != opening) {
        return Error(absl::StrCat("unexpected '", *found, "'"));
      }
      open_brackets.pop_back();
    }
    Add(Kind::kOperator, std::string(*found));
    Advance(found->size());
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    std::string text;
    size_t at = pos_ + 1;
    while (at < source_.size() && source_[at] != quote) {
      if (source_[at] != '\\') {
        text += source_[at++];
        continue;
      }
      TESSERA_RETURN_IF_ERROR(Escape(at, text));
    }
    if (at >= source_.size()) return Error("a string does not end");
    Add(Kind::kString, std::move(text));
    Advance(at + 1 - pos_);
    return absl::OkStatus();
  }

  // The escape at source_[at] = '\\'; an unknown one stays as it is, as in Python.
  absl::Status Escape(size_t& at, std::string& text) {
    if (at + 1 >= source_.size()) return Error("a string does not end");
    const char c = source_[at + 1];
    at += 2;
    constexpr absl::string_view kNames = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t known = kNames.find(c); known != kNames.npos) {
      text += kMeanings[known];
    } else if (c == '\n') {
      // A line continued.
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return HexEscape(c == 'x' ? 2 : c == 'u' ? 4 : 8, at, text);
    } else if (c >= '0' && c <= '7') {
      uint32_t code = 0;
      --at;
      for (int i = 0; i < 3 && at < source_.size() && source_[at] >= '0' && source_[at] <= '7';
           ++i) {
        code = code * 8 + static_cast<uint32_t>(source_[at++] - '0');
      }
      AppendUtf8(code, text);
    } else {
      text += '\\';
      text += c;
    }
    return absl::OkStatus();
  }

  absl::Status HexEscape(size_t digits, size_t& at, std::string& text) {
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i, ++at) {
      if (at >= source_.size() || !absl::ascii_isxdigit(source_[at])) {
        return Error("a truncated escape in a string");
      }
      const char c = absl::ascii_tolower(source_[at]);
      code = code * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      return Error("an escape in a string that is no character");
    }
    AppendUtf8(code, text);
    return absl::OkStatus();
  }

  const std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<JinjaToken> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source) {
  return Lexer(source).Run();
}

}  // namespace tessera::coordinator
