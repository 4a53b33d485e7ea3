#include "coordinator/engine/bad_words.h"

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {

absl::StatusOr<std::vector<std::vector<int32_t>>> BadWordIds(
    const google::protobuf::RepeatedPtrField<std::string>& words, const Tokenizer& tokenizer) {
  std::set<std::vector<int32_t>> distinct;
  for (const std::string& word : words) {
    const absl::string_view bare = absl::StripLeadingAsciiWhitespace(word);
    for (const std::string& form : {word, std::string(bare), absl::StrCat(" ", bare)}) {
      TESSERA_ASSIGN_OR_RETURN(
          std::vector<int32_t> ids,
          tokenizer.Encode(form, {.add_special = false, .parse_special = true}));
      // A word of spaces alone is banned as it was written, not as every space there is.
      if (!ids.empty() && (!bare.empty() || form == word)) distinct.insert(std::move(ids));
    }
  }
  return std::vector<std::vector<int32_t>>(distinct.begin(), distinct.end());
}

}  // namespace tessera::coordinator
