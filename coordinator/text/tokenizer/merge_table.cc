#include "coordinator/text/tokenizer/merge_table.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/text/tokenizer/base_tokenizer.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

absl::StatusOr<int32_t> FindPart(absl::string_view part, const std::string& field,
                                 const Vocabulary& vocabulary) {
  const std::optional<int32_t> id = vocabulary.Find(part);
  if (id) return *id;
  return wire::FieldError(field,
                          absl::StrCat("has ", Quoted(part), ", which is not in the vocabulary"));
}

}  // namespace

absl::StatusOr<MergeTable> MergeTable::Create(const v1::TokenizerDescription& description,
                                              const Vocabulary& vocabulary) {
  MergeTable table;
  table.merges_.reserve(description.merges_size());
  for (int rank = 0; rank < description.merges_size(); ++rank) {
    const absl::string_view merge = description.merges(rank);
    const std::string field = absl::StrCat("tokenizer.merges[", rank, "]");
    const size_t space = merge.find(' ');
    if (space == merge.npos || space == 0 || space + 1 >= merge.size() ||
        merge.find(' ', space + 1) != merge.npos) {
      return wire::FieldError(
          field, absl::StrCat("is ", Quoted(merge), "; expected two tokens and one space"));
    }
    const absl::string_view left_part = merge.substr(0, space);
    const absl::string_view right_part = merge.substr(space + 1);
    TESSERA_ASSIGN_OR_RETURN(const int32_t left, FindPart(left_part, field, vocabulary));
    TESSERA_ASSIGN_OR_RETURN(const int32_t right, FindPart(right_part, field, vocabulary));
    TESSERA_ASSIGN_OR_RETURN(const int32_t product,
                             FindPart(absl::StrCat(left_part, right_part), field, vocabulary));
    if (vocabulary.IsControl(left) || vocabulary.IsControl(right) ||
        vocabulary.IsControl(product)) {
      continue;
    }
    if (!table.merges_.try_emplace(Key(left, right), Merge{rank, product}).second) {
      return wire::FieldError(field, "merges the same two tokens as an earlier entry");
    }
  }
  return table;
}

}  // namespace tessera::coordinator
