#include "coordinator/text/jinja/literals.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"

namespace tessera::coordinator {
namespace {

// The literal that opens at `pos` with its quote; `pos` ends behind it.
std::string ReadLiteral(absl::string_view source, size_t& pos) {
  const char quote = source[pos++];
  std::string text;
  while (pos < source.size() && source[pos] != quote) {
    char c = source[pos++];
    if (c == '\\' && pos < source.size()) {
      c = source[pos++];
      switch (c) {
        case 'n':
          c = '\n';
          break;
        case 't':
          c = '\t';
          break;
        case 'r':
          c = '\r';
          break;
        case '\\':
        case '\'':
        case '"':
          break;
        default:
          text += '\\';  // not an escape that templates use: kept as it stands
      }
    }
    text += c;
  }
  if (pos < source.size()) ++pos;
  return text;
}

void AddCode(absl::string_view code, std::vector<JinjaPart>& parts) {
  // "{%-" and "-%}" trim the text around a tag and are no part of it.
  if (parts.empty() && !code.empty() && (code[0] == '-' || code[0] == '+')) code.remove_prefix(1);
  code = absl::StripAsciiWhitespace(code);
  if (!code.empty()) parts.push_back({false, std::string(code)});
}

void AddLiteral(std::string text, std::vector<JinjaPart>& parts) {
  const size_t count = parts.size();
  const bool joined = count >= 2 && !parts[count - 1].is_literal && parts[count - 2].is_literal &&
                      (parts[count - 1].text == "+" || parts[count - 1].text == "~");
  if (joined) {
    parts.pop_back();
    parts.back().text += text;
  } else {
    parts.push_back({true, std::move(text)});
  }
}

// The inside of a tag up to `close` ("}}" or "%}"), which a literal may contain; `pos` ends behind.
std::vector<JinjaPart> ReadTag(absl::string_view source, absl::string_view close, size_t& pos) {
  std::vector<JinjaPart> parts;
  size_t code_begin = pos;
  while (pos < source.size() && source.substr(pos, 2) != close) {
    if (source[pos] == '\'' || source[pos] == '"') {
      AddCode(source.substr(code_begin, pos - code_begin), parts);
      AddLiteral(ReadLiteral(source, pos), parts);
      code_begin = pos;
    } else {
      ++pos;
    }
  }
  absl::string_view rest = source.substr(code_begin, pos - code_begin);
  if (!rest.empty() && rest.back() == '-') rest.remove_suffix(1);
  AddCode(rest, parts);
  pos = std::min(source.size(), pos + 2);
  return parts;
}

}  // namespace

std::vector<JinjaTag> ScanJinja(absl::string_view source) {
  std::vector<JinjaTag> tags;
  size_t pos = 0;
  while (pos < source.size()) {
    const absl::string_view opening = source.substr(pos, 2);
    if (opening == "{{" || opening == "{%") {
      pos += 2;
      const bool is_output = opening == "{{";
      auto parts = ReadTag(source, is_output ? "}}" : "%}", pos);
      tags.push_back(
          {is_output ? JinjaTag::Kind::kOutput : JinjaTag::Kind::kStatement, std::move(parts)});
    } else if (opening == "{#") {
      const size_t end = source.find("#}", pos);
      pos = end == source.npos ? source.size() : end + 2;
    } else {
      size_t end = pos + 1;
      while (end < source.size() &&
             !(source[end] == '{' && end + 1 < source.size() &&
               (source[end + 1] == '{' || source[end + 1] == '%' || source[end + 1] == '#'))) {
        ++end;
      }
      tags.push_back({JinjaTag::Kind::kText, {{true, std::string(source.substr(pos, end - pos))}}});
      pos = end;
    }
  }
  return tags;
}

}  // namespace tessera::coordinator
