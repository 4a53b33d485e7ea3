#include "coordinator/openai/json_writer.h"

#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/utf8.h"

namespace tessera::coordinator {
namespace {

bool IsPlain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

void AppendEscaped(absl::string_view valid_utf8, std::string& out) {
  for (const char c : valid_utf8) {
    switch (c) {
      case '"': out.append("\\\""); break;
      case '\\': out.append("\\\\"); break;
      case '\n': out.append("\\n"); break;
      case '\r': out.append("\\r"); break;
      case '\t': out.append("\\t"); break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(&out, "\\u%04x", c);
        } else {
          out.push_back(c);
        }
    }
  }
}

void AppendQuoted(absl::string_view text, std::string& out) {
  out.push_back('"');
  bool plain = true;
  for (const char c : text) plain = plain && IsPlain(static_cast<unsigned char>(c));
  if (plain) {
    out.append(text.data(), text.size());
  } else {
    AppendEscaped(SanitizeUtf8(text), out);
  }
  out.push_back('"');
}

}  // namespace

void JsonWriter::Comma() {
  if (!std::exchange(first_, false)) out_.push_back(',');
}

void JsonWriter::Open(char bracket) {
  Comma();
  out_.push_back(bracket);
  first_ = true;
}

void JsonWriter::Close(char bracket) {
  out_.push_back(bracket);
  first_ = false;
}

JsonWriter& JsonWriter::Key(absl::string_view key) {
  Comma();
  AppendQuoted(key, out_);
  out_.push_back(':');
  first_ = true;  // its value follows without a comma
  return *this;
}

void JsonWriter::String(absl::string_view text) {
  Comma();
  AppendQuoted(text, out_);
}

void JsonWriter::Int(int64_t value) {
  Comma();
  absl::StrAppend(&out_, value);
}

void JsonWriter::Float(float value) {
  Comma();
  if (!std::isfinite(value)) value = -9999.0F;
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out_.append(digits, end);
}

void JsonWriter::Bool(bool value) {
  Comma();
  out_.append(value ? "true" : "false");
}

void JsonWriter::Null() {
  Comma();
  out_.append("null");
}

std::string JsonQuoted(absl::string_view text) {
  std::string out;
  AppendQuoted(text, out);
  return out;
}

}  // namespace tessera::coordinator
