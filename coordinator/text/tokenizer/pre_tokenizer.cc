#define PCRE2_CODE_UNIT_WIDTH 8
#include "coordinator/text/tokenizer/pre_tokenizer.h"

#include <pcre2.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kMaxPatterns = 64;
constexpr size_t kMaxPatternBytes = 1 << 16;
// Per match. The known patterns step back over a run of spaces once, one step a character.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;
constexpr absl::string_view kWhitespace = R"(\t-\r\x{85}\p{Z})";

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  const int length = pcre2_get_error_message(code, buffer, sizeof(buffer));
  if (length < 0) return absl::StrCat("PCRE2 error ", code);
  return std::string(reinterpret_cast<const char*>(buffer), length);
}

// One match at or after `start`, or PCRE2_ERROR_NOMATCH.
int MatchFrom(const pcre2_code* code, absl::string_view text, size_t start,
              pcre2_match_context* limits, pcre2_match_data* data) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  // The text was made valid once, for all pieces. Empty matches cut nothing.
  const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  const int result = pcre2_match(code, subject, text.size(), start, options, data, limits);
  if (result != PCRE2_ERROR_JIT_STACKLIMIT) return result;
  // The interpreter keeps its state on the heap.
  return pcre2_match(code, subject, text.size(), start, options | PCRE2_NO_JIT, data, limits);
}

absl::Status SplitPiece(const pcre2_code* code, pcre2_match_context* limits, pcre2_match_data* data,
                        absl::string_view piece, std::vector<absl::string_view>& out) {
  size_t done = 0;
  while (done < piece.size()) {
    const int result = MatchFrom(code, piece, done, limits, data);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "cutting ", piece.size(), " bytes of text into pieces: ", ErrorText(result)));
    }
    const PCRE2_SIZE* match = pcre2_get_ovector_pointer(data);
    if (match[0] < done || match[1] <= match[0]) {
      return absl::InternalError("a pre-tokenizer pattern matched backwards");
    }
    if (match[0] > done) out.push_back(piece.substr(done, match[0] - done));
    out.push_back(piece.substr(match[0], match[1] - match[0]));
    done = match[1];
  }
  if (done < piece.size()) out.push_back(piece.substr(done));
  return absl::OkStatus();
}

}  // namespace

void PreTokenizer::CodeDeleter::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

void PreTokenizer::ContextDeleter::operator()(pcre2_real_match_context_8* context) const {
  pcre2_match_context_free(context);
}

std::string WithUnicodeWhitespace(absl::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += in_class ? std::string(kWhitespace) : absl::StrCat("[", kWhitespace, "]");
      } else if (escaped == 'S' && !in_class) {
        absl::StrAppend(&out, "[^", kWhitespace, "]");
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      out += c;
      // "]" is an ordinary character when it stands first.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += pattern[++i];
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

absl::StatusOr<PreTokenizer::Code> PreTokenizer::Compile(const std::string& pattern,
                                                         const std::string& field) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    return wire::FieldError(field, absl::StrCat("is ", pattern.size(),
                                                " bytes long; expected 1 .. ", kMaxPatternBytes));
  }
  const std::string adapted = WithUnicodeWhitespace(pattern);
  int error = 0;
  PCRE2_SIZE position = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(adapted.data()), adapted.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &position,
                          nullptr));
  if (code == nullptr) {
    return wire::FieldError(
        field, absl::StrCat("does not compile: ", ErrorText(error), " (at ", position, ")"));
  }
  // Without JIT support the interpreter gives the same matches, slower.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<std::string>& patterns) {
  if (patterns.size() > kMaxPatterns) {
    return wire::FieldError(
        "tokenizer.pre_tokenizer_patterns",
        absl::StrCat("has ", patterns.size(), " entries; expected at most ", kMaxPatterns));
  }
  PreTokenizer pre_tokenizer;
  for (size_t i = 0; i < patterns.size(); ++i) {
    TESSERA_ASSIGN_OR_RETURN(
        Code code, Compile(patterns[i], absl::StrCat("tokenizer.pre_tokenizer_patterns[", i, "]")));
    pre_tokenizer.codes_.push_back(std::move(code));
  }
  pre_tokenizer.limits_.reset(pcre2_match_context_create(nullptr));
  if (pre_tokenizer.limits_ == nullptr) return absl::ResourceExhaustedError("PCRE2: out of memory");
  pcre2_set_match_limit(pre_tokenizer.limits_.get(), kMatchLimit);
  pcre2_set_heap_limit(pre_tokenizer.limits_.get(), kHeapLimitKib);
  return pre_tokenizer;
}

absl::StatusOr<std::vector<absl::string_view>> PreTokenizer::Split(absl::string_view text) const {
  std::vector<absl::string_view> pieces;
  if (!text.empty()) pieces.push_back(text);
  if (codes_.empty()) return pieces;
  // Scratch memory of this call; the codes and the limits are only read.
  const MatchData data(pcre2_match_data_create(1, nullptr));
  if (data == nullptr) return absl::ResourceExhaustedError("PCRE2: out of memory");
  for (const Code& code : codes_) {
    std::vector<absl::string_view> finer;
    finer.reserve(pieces.size());
    for (const absl::string_view piece : pieces) {
      TESSERA_RETURN_IF_ERROR(SplitPiece(code.get(), limits_.get(), data.get(), piece, finer));
    }
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace tessera::coordinator
