#include "coordinator/group/first_sentences.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

// A text whose first sentence is longer does not end with it.
constexpr size_t kMaxBytes = 4 << 10;

bool IsRuler(absl::string_view words) {
  return !words.empty() && words.find_first_not_of('-') == absl::string_view::npos;
}

// The part of `words` up to the end of a sentence, if it has one: a full stop at the end, or before
// a capital letter ("e.g. this" goes on).
std::optional<absl::string_view> UpToFullStop(absl::string_view words) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] != '.') continue;
    const absl::string_view rest = words.substr(i + 1);
    const absl::string_view next = absl::StripLeadingAsciiWhitespace(rest);
    const bool apart = next.empty() || next.size() < rest.size();
    if (apart && (next.empty() || absl::ascii_isupper(next[0]))) return words.substr(0, i + 1);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> FirstSentences::Add(absl::string_view line) {
  const absl::string_view words = absl::StripAsciiWhitespace(line);
  if (IsRuler(words)) {
    const bool opens = place_ == Place::kOutside || place_ == Place::kBefore;
    std::optional<std::string> sentence = Flush();
    place_ = opens ? Place::kBefore : Place::kOutside;
    return sentence;
  }
  switch (place_) {
    case Place::kOutside:
      if (words.empty()) return std::nullopt;
      return std::string(words);
    case Place::kBefore:
    case Place::kInSentence:
      return AddWords(words);
    case Place::kBeforeList:
    case Place::kInList:
      return AddItem(line);
    case Place::kBehind:
      return std::nullopt;
  }
  return std::nullopt;
}

std::optional<std::string> FirstSentences::AddWords(absl::string_view words) {
  if (words.empty()) return sentence_.empty() ? std::nullopt : Complete();
  place_ = Place::kInSentence;
  const std::optional<absl::string_view> end = UpToFullStop(words);
  absl::StrAppend(&sentence_, sentence_.empty() ? "" : " ", end.value_or(words));
  if (end || sentence_.size() > kMaxBytes) return Complete();
  if (absl::EndsWith(words, ":")) place_ = Place::kBeforeList;
  return std::nullopt;
}

std::optional<std::string> FirstSentences::AddItem(absl::string_view line) {
  const absl::string_view words = absl::StripAsciiWhitespace(line);
  const bool first = place_ == Place::kBeforeList;
  if (words.empty()) return first ? std::nullopt : Complete();
  const bool indented = absl::ascii_isspace(line[0]);
  if (first) indented_ = indented;
  if (indented != indented_ || sentence_.size() > kMaxBytes) return Complete();
  absl::StrAppend(&sentence_, first ? " " : ", ", words);
  place_ = Place::kInList;
  return std::nullopt;
}

std::optional<std::string> FirstSentences::Complete() {
  absl::RemoveExtraAsciiWhitespace(&sentence_);
  place_ = Place::kBehind;
  return std::exchange(sentence_, "");
}

std::optional<std::string> FirstSentences::Flush() {
  if (sentence_.empty()) return std::nullopt;
  return Complete();
}

}  // namespace tessera::coordinator
