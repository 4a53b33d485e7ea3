// What one rendering may spend: steps (nodes evaluated, items looked at), bytes (of strings and
// lists made), the size of one string, and nesting. Past one of them every call fails.
//
//   TESSERA_RETURN_IF_ERROR(budget.Steps(1));
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_BUDGET_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_BUDGET_H_

#include <cstddef>

#include "absl/status/status.h"

namespace tessera::coordinator {

struct JinjaLimits {
  size_t steps = 250'000;
  size_t bytes = size_t{16} << 20;
  size_t text_bytes = size_t{1} << 20;  // of one string, and of the prompt
  int nesting = 400;                    // of evaluation: expressions, blocks and macro calls
};

class JinjaBudget {
 public:
  explicit JinjaBudget(const JinjaLimits& limits) : limits_(limits), left_(limits) {}

  absl::Status Steps(size_t count);
  absl::Status Bytes(size_t count);  // of one string about to be made
  absl::Status Items(size_t count);  // of one list about to be made
  absl::Status Enter();              // one level further in
  void Leave() { ++left_.nesting; }
  size_t text_bytes() const { return limits_.text_bytes; }

 private:
  const JinjaLimits limits_;
  JinjaLimits left_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_BUDGET_H_
