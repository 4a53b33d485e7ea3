// A set of Unicode characters (scalar values: no surrogates) and its spelling in UTF-8 bytes.
//
//   CharacterSet word = CharacterSet::Of({{'a', 'z'}, {'0', '9'}});
//   for (const Utf8Sequence& s : word.Complement().Utf8Sequences()) ...
#ifndef TESSERA_COORDINATOR_GRAMMAR_CHARACTER_SET_H_
#define TESSERA_COORDINATOR_GRAMMAR_CHARACTER_SET_H_

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace tessera::coordinator::grammar {

struct CharacterRange {
  uint32_t first = 0;
  uint32_t last = 0;  // inclusive
};

struct ByteRange {
  uint8_t first = 0;
  uint8_t last = 0;  // inclusive
};

// All characters whose i-th byte lies in ranges[i], for each i < length, on its own.
struct Utf8Sequence {
  int length = 0;
  std::array<ByteRange, 4> ranges;
};

class CharacterSet {
 public:
  static CharacterSet Of(std::initializer_list<CharacterRange> ranges);
  static CharacterSet All();

  void Add(uint32_t first, uint32_t last);
  void Add(const CharacterSet& other);
  CharacterSet Complement() const;
  CharacterSet Without(const CharacterSet& other) const;
  bool Contains(uint32_t character) const;
  bool empty() const { return ranges().empty(); }

  // In ascending order, apart from each other, without surrogates.
  const std::vector<CharacterRange>& ranges() const;
  std::vector<Utf8Sequence> Utf8Sequences() const;

 private:
  mutable std::vector<CharacterRange> ranges_;
  mutable bool is_sorted_ = true;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_CHARACTER_SET_H_
