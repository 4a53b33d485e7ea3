#include "coordinator/grammar/character_set.h"

#include <algorithm>

namespace tessera::coordinator::grammar {
namespace {

constexpr uint32_t kLastCharacter = 0x10FFFF;
constexpr CharacterRange kSurrogates = {0xD800, 0xDFFF};

struct EncodedCharacter {
  int length = 0;
  std::array<uint8_t, 4> bytes;
};

EncodedCharacter Encode(uint32_t c) {
  const auto low = [c](int shift) { return static_cast<uint8_t>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) return {1, {static_cast<uint8_t>(c)}};
  if (c < 0x800) return {2, {static_cast<uint8_t>(0xC0 | (c >> 6)), low(0)}};
  if (c < 0x10000) return {3, {static_cast<uint8_t>(0xE0 | (c >> 12)), low(6), low(0)}};
  return {4, {static_cast<uint8_t>(0xF0 | (c >> 18)), low(12), low(6), low(0)}};
}

// Splits until first and last differ only in bytes whose successors cover 0x80 .. 0xBF entirely.
void AppendSequences(uint32_t first, uint32_t last, std::vector<Utf8Sequence>& out) {
  for (const uint32_t end_of_length : {0x7FU, 0x7FFU, 0xFFFFU}) {
    if (first <= end_of_length && end_of_length < last) {
      AppendSequences(first, end_of_length, out);
      AppendSequences(end_of_length + 1, last, out);
      return;
    }
  }
  if (last >= 0x80) {
    for (int i = 1; i < 4; ++i) {
      const uint32_t mask = (1U << (6 * i)) - 1;
      if ((first & ~mask) == (last & ~mask)) continue;
      if ((first & mask) != 0) {
        AppendSequences(first, first | mask, out);
        AppendSequences((first | mask) + 1, last, out);
        return;
      }
      if ((last & mask) != mask) {
        AppendSequences(first, (last & ~mask) - 1, out);
        AppendSequences(last & ~mask, last, out);
        return;
      }
    }
  }
  const EncodedCharacter low = Encode(first);
  const EncodedCharacter high = Encode(last);
  Utf8Sequence sequence;
  sequence.length = low.length;
  for (int i = 0; i < low.length; ++i) sequence.ranges[i] = {low.bytes[i], high.bytes[i]};
  out.push_back(sequence);
}

}  // namespace

CharacterSet CharacterSet::Of(std::initializer_list<CharacterRange> ranges) {
  CharacterSet set;
  for (const CharacterRange& range : ranges) set.Add(range.first, range.last);
  return set;
}

CharacterSet CharacterSet::All() { return Of({{0, kLastCharacter}}); }

void CharacterSet::Add(uint32_t first, uint32_t last) {
  if (first < kSurrogates.first && last >= kSurrogates.first) {
    Add(first, kSurrogates.first - 1);
    first = kSurrogates.first;
  }
  if (first >= kSurrogates.first && first <= kSurrogates.last) first = kSurrogates.last + 1;
  last = std::min(last, kLastCharacter);
  if (first > last) return;
  ranges_.push_back({first, last});
  is_sorted_ = false;
}

void CharacterSet::Add(const CharacterSet& other) {
  for (const CharacterRange& range : other.ranges()) Add(range.first, range.last);
}

CharacterSet CharacterSet::Complement() const {
  CharacterSet result;
  uint32_t next = 0;
  for (const CharacterRange& range : ranges()) {
    if (range.first > next) result.Add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= kLastCharacter) result.Add(next, kLastCharacter);
  return result;
}

CharacterSet CharacterSet::Without(const CharacterSet& other) const {
  CharacterSet rest = Complement();
  rest.Add(other);
  return rest.Complement();
}

bool CharacterSet::Contains(uint32_t character) const {
  const auto& sorted = ranges();
  auto after = std::upper_bound(
      sorted.begin(), sorted.end(), character,
      [](uint32_t value, const CharacterRange& range) { return value < range.first; });
  return after != sorted.begin() && (--after)->last >= character;
}

const std::vector<CharacterRange>& CharacterSet::ranges() const {
  if (is_sorted_) return ranges_;
  std::sort(ranges_.begin(), ranges_.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  size_t kept = 0;
  for (size_t i = 1; i < ranges_.size(); ++i) {
    if (ranges_[i].first <= ranges_[kept].last + 1) {
      ranges_[kept].last = std::max(ranges_[kept].last, ranges_[i].last);
    } else {
      ranges_[++kept] = ranges_[i];
    }
  }
  ranges_.resize(kept + 1);
  is_sorted_ = true;
  return ranges_;
}

std::vector<Utf8Sequence> CharacterSet::Utf8Sequences() const {
  std::vector<Utf8Sequence> sequences;
  for (const CharacterRange& range : ranges()) {
    AppendSequences(range.first, range.last, sequences);
  }
  return sequences;
}

}  // namespace tessera::coordinator::grammar
