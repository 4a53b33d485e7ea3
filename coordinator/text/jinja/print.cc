#include "coordinator/text/jinja/print.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// Appends to one text within the budget.
class Printer {
 public:
  explicit Printer(JinjaBudget& budget) : budget_(budget) {}

  ChatPrompt Take() { return std::move(out_); }

 protected:
  absl::Status Words(absl::string_view words) {
    out_.Literal(words);
    return CheckSize();
  }

  // `words`, as the byte of `like` at `pos` is marked.
  void WordsAs(absl::string_view words, const ChatPrompt& like, size_t pos) {
    const ChatPrompt marked = like.IsContent(pos) ? std::move(ChatPrompt().Content(words))
                                                  : std::move(ChatPrompt().Literal(words));
    out_.AppendSlice(marked, 0, words.size());
  }

  absl::Status CheckSize() {
    if (out_.text().size() <= budget_.text_bytes()) return absl::OkStatus();
    return budget_.Bytes(out_.text().size());
  }

  // `text` with what `escape` gives for characters that cannot stand as they are ("" for others).
  template <typename Escape>
  absl::Status Escaped(const ChatPrompt& text, const Escape& escape) {
    const std::string& all = text.text();
    size_t kept = 0;
    for (size_t pos = 0, bytes = 0; pos < all.size(); pos += bytes) {
      utf8proc_int32_t c = -1;
      const auto length =
          utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(all.data()) + pos,
                           static_cast<utf8proc_ssize_t>(all.size() - pos), &c);
      bytes = length > 0 ? static_cast<size_t>(length) : 1;
      const std::string replacement = length > 0 ? escape(c) : std::string();
      if (replacement.empty()) continue;
      out_.AppendSlice(text, kept, pos);
      WordsAs(replacement, text, pos);
      kept = pos + bytes;
      TESSERA_RETURN_IF_ERROR(CheckSize());
    }
    out_.AppendSlice(text, kept, all.size());
    return CheckSize();
  }

  JinjaBudget& budget_;
  ChatPrompt out_;
};

std::string ReprEscape(utf8proc_int32_t c, char quote) {
  if (c == quote || c == '\\') return absl::StrCat("\\", std::string(1, static_cast<char>(c)));
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (c >= 0x20 && c < 0x7F) return "";
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      break;
    default:
      return "";
  }
  if (c < 0x100) return absl::StrFormat("\\x%02x", c);
  return c < 0x10000 ? absl::StrFormat("\\u%04x", c) : absl::StrFormat("\\U%08x", c);
}

std::string RealText(const JinjaReal& real) {
  return real.spelling != nullptr ? *real.spelling : PythonFloat(real.value);
}

class ReprPrinter : public Printer {
 public:
  using Printer::Printer;

  absl::Status Print(const JinjaValue& value) {
    if (const ChatPrompt* text = value.text()) return Repr(*text);
    if (const JinjaList* list = value.list()) return List(*list);
    if (const JinjaDict* dict = value.dict()) return Dict(*dict);
    return Scalar(value);
  }

  absl::Status Scalar(const JinjaValue& value) {
    if (value.IsUndefined()) return Words("Undefined");
    if (value.IsNone()) return Words("None");
    if (const bool* flag = value.As<bool>()) return Words(*flag ? "True" : "False");
    if (const int64_t* integer = value.As<int64_t>()) return Words(absl::StrCat(*integer));
    if (const JinjaReal* real = value.As<JinjaReal>()) return Words(RealText(*real));
    return Words(absl::StrCat("<", value.TypeName(), ">"));
  }

 private:
  absl::Status Repr(const ChatPrompt& text) {
    const bool has_single = absl::StrContains(text.text(), "'");
    const char quote = has_single && !absl::StrContains(text.text(), "\"") ? '"' : '\'';
    const std::string quotes(1, quote);
    TESSERA_RETURN_IF_ERROR(Words(quotes));
    TESSERA_RETURN_IF_ERROR(
        Escaped(text, [quote](utf8proc_int32_t c) { return ReprEscape(c, quote); }));
    return Words(quotes);
  }

  absl::Status List(const JinjaList& list) {
    TESSERA_RETURN_IF_ERROR(Words(list.is_tuple ? "(" : "["));
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) TESSERA_RETURN_IF_ERROR(Words(", "));
      TESSERA_RETURN_IF_ERROR(Print(list.items[i]));
    }
    if (list.is_tuple) return Words(list.items.size() == 1 ? ",)" : ")");
    return Words("]");
  }

  absl::Status Dict(const JinjaDict& dict) {
    TESSERA_RETURN_IF_ERROR(Words("{"));
    for (size_t i = 0; i < dict.entries().size(); ++i) {
      if (i > 0) TESSERA_RETURN_IF_ERROR(Words(", "));
      TESSERA_RETURN_IF_ERROR(Print(dict.entries()[i].key));
      TESSERA_RETURN_IF_ERROR(Words(": "));
      TESSERA_RETURN_IF_ERROR(Print(dict.entries()[i].value));
    }
    return Words("}");
  }
};

std::string JsonEscape(utf8proc_int32_t c, bool ascii_only) {
  if (c == '"') return "\\\"";
  if (c == '\\') return "\\\\";
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (c == '\f') return "\\f";
  if (c == '\b') return "\\b";
  if (c >= 0x20 && (c < 0x80 || !ascii_only)) return "";
  if (c < 0x10000) return absl::StrFormat("\\u%04x", c);
  const int offset = c - 0x10000;
  return absl::StrFormat("\\u%04x\\u%04x", 0xD800 + (offset >> 10), 0xDC00 + (offset & 0x3FF));
}

class JsonPrinter : public Printer {
 public:
  JsonPrinter(JinjaBudget& budget, const JsonStyle& style) : Printer(budget), style_(style) {}

  absl::Status Print(const JinjaValue& value, int level) {
    if (const ChatPrompt* text = value.text()) return String(*text);
    if (const JinjaList* list = value.list()) return List(*list, level);
    if (const JinjaDict* dict = value.dict()) return Dict(*dict, level);
    return Scalar(value);
  }

 private:
  absl::Status Scalar(const JinjaValue& value) {
    if (value.IsNone()) return Words("null");
    if (const bool* flag = value.As<bool>()) return Words(*flag ? "true" : "false");
    if (const int64_t* integer = value.As<int64_t>()) return Words(absl::StrCat(*integer));
    if (const JinjaReal* real = value.As<JinjaReal>()) return Real(*real);
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", value.TypeName(), " has no form in JSON"));
  }

  absl::Status Real(const JinjaReal& real) {
    if (std::isnan(real.value)) return Words("NaN");
    if (std::isinf(real.value)) return Words(real.value < 0 ? "-Infinity" : "Infinity");
    return Words(RealText(real));
  }

  absl::Status String(const ChatPrompt& text) {
    TESSERA_RETURN_IF_ERROR(Words("\""));
    TESSERA_RETURN_IF_ERROR(
        Escaped(text, [this](utf8proc_int32_t c) { return JsonEscape(c, style_.ascii_only); }));
    return Words("\"");
  }

  absl::Status NewLine(int level) {
    if (!style_.indent) return absl::OkStatus();
    TESSERA_RETURN_IF_ERROR(Words("\n"));
    for (int i = 0; i < level; ++i) TESSERA_RETURN_IF_ERROR(Words(*style_.indent));
    return absl::OkStatus();
  }

  absl::Status Separator(size_t index, int level) {
    if (index > 0) TESSERA_RETURN_IF_ERROR(Words(style_.item_separator));
    return NewLine(level);
  }

  absl::Status List(const JinjaList& list, int level) {
    if (list.items.empty()) return Words("[]");
    TESSERA_RETURN_IF_ERROR(Words("["));
    for (size_t i = 0; i < list.items.size(); ++i) {
      TESSERA_RETURN_IF_ERROR(Separator(i, level + 1));
      TESSERA_RETURN_IF_ERROR(Print(list.items[i], level + 1));
    }
    TESSERA_RETURN_IF_ERROR(NewLine(level));
    return Words("]");
  }

  absl::Status Dict(const JinjaDict& dict, int level) {
    if (dict.entries().empty()) return Words("{}");
    std::vector<const JinjaDict::Entry*> entries;
    for (const JinjaDict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sorts_keys) TESSERA_RETURN_IF_ERROR(Sort(entries));
    TESSERA_RETURN_IF_ERROR(Words("{"));
    for (size_t i = 0; i < entries.size(); ++i) {
      TESSERA_RETURN_IF_ERROR(Separator(i, level + 1));
      TESSERA_RETURN_IF_ERROR(Key(entries[i]->key));
      TESSERA_RETURN_IF_ERROR(Words(style_.key_separator));
      TESSERA_RETURN_IF_ERROR(Print(entries[i]->value, level + 1));
    }
    TESSERA_RETURN_IF_ERROR(NewLine(level));
    return Words("}");
  }

  absl::Status Key(const JinjaValue& key) {
    if (const ChatPrompt* text = key.text()) return String(*text);
    TESSERA_RETURN_IF_ERROR(Words("\""));
    TESSERA_RETURN_IF_ERROR(Scalar(key));
    return Words("\"");
  }

  static absl::Status Sort(std::vector<const JinjaDict::Entry*>& entries) {
    for (const JinjaDict::Entry* entry : entries) {
      TESSERA_RETURN_IF_ERROR(JinjaCompare(entry->key, entries[0]->key).status());
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const JinjaDict::Entry* a, const JinjaDict::Entry* b) {
                       return JinjaCompare(a->key, b->key).value_or(0) < 0;
                     });
    return absl::OkStatus();
  }

  const JsonStyle& style_;
};

}  // namespace

std::string PythonFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific)
                       .ptr;
  const std::string shortest(buffer.data(), end);  // d.ddde+XX
  const size_t e = shortest.find('e');
  const int exponent = std::atoi(shortest.c_str() + e + 1);
  std::string mantissa = shortest.substr(0, e);
  if (exponent < -4 || exponent >= 16) {
    return absl::StrFormat("%se%c%02d", mantissa, exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  const std::string sign = mantissa[0] == '-' ? "-" : "";
  std::string digits;
  for (const char c : mantissa) {
    if (c >= '0' && c <= '9') digits += c;
  }
  if (exponent < 0) {
    return absl::StrCat(sign, "0.", std::string(static_cast<size_t>(-exponent - 1), '0'), digits);
  }
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole + 1) digits.append(whole + 1 - digits.size(), '0');
  return absl::StrCat(sign, digits.substr(0, whole), ".", digits.substr(whole));
}

absl::StatusOr<ChatPrompt> JinjaStr(const JinjaValue& value, JinjaBudget& budget) {
  if (const ChatPrompt* text = value.text()) return *text;
  if (value.IsUndefined()) return ChatPrompt();
  TESSERA_RETURN_IF_ERROR(budget.Steps(value.nodes()));
  ReprPrinter printer(budget);
  TESSERA_RETURN_IF_ERROR(printer.Print(value));
  ChatPrompt text = printer.Take();
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text.text().size()));
  return text;
}

absl::StatusOr<ChatPrompt> JinjaToJson(const JinjaValue& value, const JsonStyle& style,
                                       JinjaBudget& budget) {
  TESSERA_RETURN_IF_ERROR(budget.Steps(value.nodes()));
  JsonPrinter printer(budget, style);
  TESSERA_RETURN_IF_ERROR(printer.Print(value, 0));
  ChatPrompt text = printer.Take();
  TESSERA_RETURN_IF_ERROR(budget.Bytes(text.text().size()));
  return text;
}

}  // namespace tessera::coordinator
