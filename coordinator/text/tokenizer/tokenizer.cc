#include "coordinator/text/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/text/tokenizer/base_tokenizer.h"
#include "coordinator/text/tokenizer/byte_level_bpe.h"
#include "coordinator/text/tokenizer/sentencepiece_bpe.h"
#include "coordinator/text/tokenizer/text_stream.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// Offsets are 32 bits wide; replacement and the space mark may triple a text.
constexpr size_t kMaxTextBytes = size_t{1} << 28;

// Valid UTF-8, and where its plain ranges lie after the replacements.
struct CleanText {
  std::string text;
  std::vector<TextRange> plain;
};

CleanText Clean(absl::string_view text, absl::Span<const TextRange> plain) {
  CleanText clean;
  size_t done = 0;
  for (const TextRange& range : plain) {
    clean.text += SanitizeUtf8(text.substr(done, range.begin - done));
    const size_t begin = clean.text.size();
    clean.text += SanitizeUtf8(text.substr(range.begin, range.end - range.begin));
    clean.plain.push_back({begin, clean.text.size()});
    done = range.end;
  }
  clean.text += SanitizeUtf8(text.substr(done));
  return clean;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(
    const v1::TokenizerDescription& description) {
  switch (description.kind()) {
    case v1::TOKENIZER_KIND_BYTE_LEVEL_BPE:
      return CreateByteLevelBpe(description);
    case v1::TOKENIZER_KIND_SENTENCEPIECE_BPE:
      return CreateSentencePieceBpe(description);
    default:
      return wire::FieldError("tokenizer.kind",
                              absl::StrCat("is ", static_cast<int>(description.kind()),
                                           "; expected BYTE_LEVEL_BPE or SENTENCEPIECE_BPE"));
  }
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special) const {
  TextStream stream(this, {}, skip_special);
  std::string text;
  for (const int32_t id : ids) text += stream.Push(id);
  return text + stream.Flush();
}

BaseTokenizer::BaseTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

absl::Status BaseTokenizer::SetTokenBytes(std::vector<std::string> bytes) {
  token_bytes_ = std::move(bytes);
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    longest_token_bytes_ = std::max(longest_token_bytes_, token_bytes_[id].size());
    const bool is_control = vocabulary_.IsControl(id);
    if (!is_control && vocabulary_.type(id) != v1::TOKEN_TYPE_USER_DEFINED) continue;
    TESSERA_RETURN_IF_ERROR(verbatim_.Add(token_bytes_[id], id, is_control));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> BaseTokenizer::Encode(absl::string_view text,
                                                           const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return wire::FieldError(
        "text", absl::StrCat("is ", text.size(), " bytes long; expected at most ", kMaxTextBytes));
  }
  const CleanText clean = Clean(text, options.plain);
  std::vector<int32_t> ids;
  if (options.add_special && vocabulary_.leading_bos()) ids.push_back(*vocabulary_.leading_bos());
  TextPlace place = TextPlace::kStart;
  for (const Fragment& fragment :
       verbatim_.Split(clean.text, options.parse_special, clean.plain)) {
    if (fragment.id >= 0) {
      ids.push_back(fragment.id);
      place = TextPlace::kAfterToken;
    } else {
      TESSERA_RETURN_IF_ERROR(EncodeText(fragment.text, place, ids));
      place = TextPlace::kAfterText;
    }
  }
  if (options.add_special && vocabulary_.trailing_eos()) ids.push_back(*vocabulary_.trailing_eos());
  return ids;
}

const std::string& BaseTokenizer::TokenBytes(int32_t id) const {
  static const std::string empty;
  return vocabulary_.Contains(id) ? token_bytes_[id] : empty;
}

}  // namespace tessera::coordinator
