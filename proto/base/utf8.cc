#include "proto/base/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tessera {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";
constexpr size_t kMaxQuotedBytes = 200;

// What stands at the front of a byte sequence.
struct Sequence {
  enum class Kind { kCharacter, kInvalid, kUnfinished } kind;
  size_t length;  // bytes it takes: at least 1
};

// Table 3-7 of the Unicode standard: the second byte's range depends on the first; every later one
// is 80..BF.
Sequence ClassifyFront(absl::string_view bytes) {
  using Kind = Sequence::Kind;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Kind::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Kind::kInvalid, 1};
  const size_t length = Utf8CharLength(bytes[0]);
  unsigned low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::kUnfinished, i};
    if (byte(i) < low || byte(i) > high) return {Kind::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kCharacter, length};
}

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// utf8proc's own decomposition sorts combining marks by insertion, quadratic in a run of them, and
// the text is a client's. So characters are decomposed one by one and sorted here.
std::vector<utf8proc_int32_t> DecomposeInOrder(absl::string_view text) {
  constexpr int kLongestDecomposition = 32;
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    utf8proc_int32_t codepoint = 0;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + pos);
    const auto length = utf8proc_iterate(bytes, text.size() - pos, &codepoint);
    if (length <= 0) break;  // not reached with valid UTF-8
    pos += length;
    utf8proc_int32_t parts[kLongestDecomposition];
    int boundary_class = UTF8PROC_BOUNDCLASS_START;
    const auto count = utf8proc_decompose_char(codepoint, parts, kLongestDecomposition,
                                               UTF8PROC_DECOMPOSE, &boundary_class);
    if (count > 0 && count <= kLongestDecomposition) {
      out.insert(out.end(), parts, parts + count);
    } else {
      out.push_back(codepoint);
    }
  }
  const auto combining_class = [](utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  };
  for (auto run = out.begin(); run != out.end();) {
    if (combining_class(*run) == 0) {
      ++run;
      continue;
    }
    const auto end = std::find_if(run, out.end(), [&](auto c) { return combining_class(c) == 0; });
    std::stable_sort(run, end,
                     [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    run = end;
  }
  return out;
}

}  // namespace

size_t Utf8CharLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

size_t WholeUtf8Prefix(absl::string_view bytes) {
  // An unfinished character is at most three bytes long, so only the last three can start one.
  size_t pos = bytes.size() - std::min<size_t>(bytes.size(), 3);
  for (; pos < bytes.size(); ++pos) {
    if ((bytes[pos] & 0xC0) == 0x80) continue;
    const Sequence front = ClassifyFront(bytes.substr(pos));
    if (front.kind == Sequence::Kind::kUnfinished && pos + front.length == bytes.size()) return pos;
  }
  return bytes.size();
}

std::string SanitizeUtf8(absl::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t pos = 0; pos < bytes.size();) {
    const Sequence front = ClassifyFront(bytes.substr(pos));
    const bool good = front.kind == Sequence::Kind::kCharacter;
    const absl::string_view text = good ? bytes.substr(pos, front.length) : kReplacement;
    out.append(text.data(), text.size());
    pos += front.length;
  }
  return out;
}

std::string Quoted(absl::string_view bytes) {
  const absl::string_view shown = bytes.substr(0, kMaxQuotedBytes);
  const size_t whole = shown.size() < bytes.size() ? WholeUtf8Prefix(shown) : shown.size();
  return absl::StrCat("'", absl::Utf8SafeCHexEscape(SanitizeUtf8(shown.substr(0, whole))), "'",
                      whole < bytes.size() ? absl::StrCat("... (", bytes.size(), " bytes)") : "");
}

std::string NormalizeNfc(absl::string_view valid_utf8) {
  if (IsAscii(valid_utf8)) return std::string(valid_utf8);
  std::vector<utf8proc_int32_t> codepoints = DecomposeInOrder(valid_utf8);
  const auto count =
      utf8proc_normalize_utf32(codepoints.data(), static_cast<utf8proc_ssize_t>(codepoints.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::string out;
  out.reserve(valid_utf8.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    utf8proc_uint8_t bytes[4];
    const auto length = utf8proc_encode_char(codepoints[i], bytes);
    out.append(reinterpret_cast<const char*>(bytes), length);
  }
  return out;
}

}  // namespace tessera
