// What a program's output says, sentence by sentence, as far as it tells why the program ended.
//
// Open MPI puts each of its help texts between two rulers of dashes: the first sentence of such a
// text says what happened, over several lines, and advice follows. Everything else (ssh's errors,
// those of option parsers) says one thing on each line.
//
// Threads: used by one thread.
//
//   if (std::optional<std::string> sentence = sentences.Add(line)) ...
#ifndef TESSERA_COORDINATOR_GROUP_FIRST_SENTENCES_H_
#define TESSERA_COORDINATOR_GROUP_FIRST_SENTENCES_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tessera::coordinator {

class FirstSentences {
 public:
  // A sentence that `line` has completed, as one line: the first one of a text between rulers, with
  // what it lists behind a colon; or the whole line elsewhere.
  std::optional<std::string> Add(absl::string_view line);
  // What is there of a sentence that nothing has completed.
  std::optional<std::string> Flush();

 private:
  enum class Place {
    kOutside,     // of rulers
    kBefore,      // the first line of a text
    kInSentence,
    kBeforeList,  // behind its colon
    kInList,
    kBehind,      // advice
  };

  std::optional<std::string> AddWords(absl::string_view line);
  std::optional<std::string> AddItem(absl::string_view line);
  std::optional<std::string> Complete();

  Place place_ = Place::kOutside;
  std::string sentence_;
  bool indented_ = false;  // the items of the list
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_FIRST_SENTENCES_H_
