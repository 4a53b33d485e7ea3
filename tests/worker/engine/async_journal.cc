#include "tests/worker/engine/async_journal.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/worker/engine/layout_answers.h"

namespace tessera::worker {

int64_t FreedAtWork(const Journal& journal) {
  const auto launched = std::find_if(journal.begin(), journal.end(), [](const auto& line) {
    return absl::StartsWith(line, "launch ");
  });
  return std::count(launched, journal.end(), "free at work");
}

std::vector<StepLines> SamplingSteps(const Journal& journal) {
  std::vector<StepLines> steps;
  size_t begin = 0;
  for (size_t i = 0; i < journal.size(); ++i) {
    if (!absl::StartsWith(journal[i], "launch SampleRows")) continue;
    const auto recorded = std::find_if(journal.begin() + i, journal.end(), [](const auto& line) {
      return absl::StartsWith(line, "record ");
    });
    if (recorded == journal.end()) break;
    const std::string query = absl::StrCat("query ", recorded->substr(7), ": passed");
    const auto passed = std::find(recorded, journal.end(), query);
    StepLines& step = steps.emplace_back();
    step.begin = begin;
    step.recorded = recorded - journal.begin();
    step.passed = passed - journal.begin();
    begin = step.recorded + 1;
  }
  return steps;
}

std::string Quoted(const Journal& journal, size_t begin, size_t end) {
  return absl::StrJoin(journal.begin() + begin, journal.begin() + std::min(end, journal.size()),
                       "\n");
}

std::vector<GenerationRequest> AsyncRequests(int32_t vocab, size_t others) {
  std::vector<GenerationRequest> requests = EightPrompts(vocab, 9, /*return_logits=*/false);
  requests.resize(6);
  for (size_t i = 0; i < requests.size(); ++i) {
    v1::SamplingParams& sampling = requests[i].sampling;
    sampling.set_seed(i);
    if (i % 2 == 1) sampling.set_temperature(0.9f);
    if (i % 3 == 2) sampling.set_num_logprobs(3);
    if (i >= others) continue;
    requests[i].max_new_tokens = 4;
    if (i == 0) sampling.set_presence_penalty(2);
    if (i == 1) sampling.set_top_p(0.8f);
    if (i == 2) requests[i].logits_state.set_allowed_mask(std::string((vocab + 7) / 8, '\x5b'));
  }
  return requests;
}

void ExpectSameAnswers(const std::vector<GenerationResult>& a,
                       const std::vector<GenerationResult>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].tokens, b[i].tokens) << what << ", request " << i;
    ASSERT_EQ(a[i].details.size(), b[i].details.size());
    for (size_t t = 0; t < a[i].details.size(); ++t) {
      EXPECT_EQ(a[i].details[t].SerializeAsString(), b[i].details[t].SerializeAsString())
          << what << ", request " << i << ", token " << t;
    }
  }
}

}  // namespace tessera::worker
