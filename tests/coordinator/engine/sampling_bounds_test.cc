// Every number of a request × {0, -1, its bounds, beyond them, NaN, ±Inf, 10^9}: let in or refused
// with INVALID_ARGUMENT that names the field; nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/validate.h"

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr int kVocab = 1000;
constexpr int kMaxTokens = 1 << 24;
constexpr int kMaxPriority = 1'000'000;
constexpr double kInf = std::numeric_limits<double>::infinity();

struct Field {
  const char* name;
  std::function<void(v1::SamplingOptions&, double)> set;
  double low, high;
  bool low_allowed = true;
  bool is_float = true;
};

#define TESSERA_FLOAT(field, low, ...) \
  {"sampling." #field, [](auto& o, double v) { o.set_##field(static_cast<float>(v)); }, low, \
   __VA_ARGS__}
#define TESSERA_INT(field, low, high) \
  {"sampling." #field, [](auto& o, double v) { o.set_##field(static_cast<int>(v)); }, low, high, \
   true, false}

const Field kFields[] = {
    TESSERA_FLOAT(temperature, 0, 100),
    TESSERA_FLOAT(top_p, 0, 1, false),
    TESSERA_FLOAT(min_p, 0, 1),
    TESSERA_FLOAT(repetition_penalty, 0, 100, false),
    TESSERA_FLOAT(presence_penalty, -2, 2),
    TESSERA_FLOAT(frequency_penalty, -2, 2),
    {"sampling.logit_bias[7]",
     [](auto& o, double v) { (*o.mutable_logit_bias())[7] = static_cast<float>(v); }, -100, 100},
    TESSERA_INT(max_tokens, 1, kMaxTokens),
    TESSERA_INT(min_tokens, 0, kMaxTokens),
    TESSERA_INT(top_k, -1, kMaxTokens),
    TESSERA_INT(logprobs, 0, 20),
    TESSERA_INT(prompt_logprobs, 0, 20),
    TESSERA_INT(n, 1, 64),
    {"sampling.stop_token_ids[0]",
     [](auto& o, double v) { o.add_stop_token_ids(static_cast<int>(v)); }, 0, kVocab - 1, true,
     false},
};

absl::Status Check(const Field& field, double value) {
  v1::SamplingOptions options;
  field.set(options, value);
  return CheckSampling(options, {.prompt_tokens = 10,
                                 .context_tokens = 100,
                                 .told_tokens = 10,
                                 .vocab_size = kVocab})
      .status();
}

TEST(SamplingBounds, EveryNumberIsLetInWithinItsBoundsAlone) {
  for (const Field& field : kFields) {
    std::vector<double> values = {0, -1, 1e9, -1e9, field.low, field.high, field.low - 1,
                                  field.high + 1};
    if (field.is_float) values.insert(values.end(), {NAN, kInf, -kInf, 1e-6, field.high * 1.001});
    if (!field.is_float) values.insert(values.end(), {2147483647.0, -2147483648.0});
    for (const double value : values) {
      const bool above = field.low_allowed ? value >= field.low : value > field.low;
      const absl::Status status = Check(field, value);
      EXPECT_EQ(status.ok(), above && value <= field.high) << field.name << " = " << value;
      if (status.ok()) continue;
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field.name << " = " << value;
      EXPECT_THAT(std::string(status.message()), HasSubstr(field.name));
    }
  }
}

TEST(SamplingBounds, PriorityAndScoreNumbers) {
  for (const int priority : {0, -1, kMaxPriority, -kMaxPriority}) {
    EXPECT_TRUE(CheckPriority(priority).ok()) << priority;
  }
  for (const int priority : {kMaxPriority + 1, -kMaxPriority - 1, 1'000'000'000}) {
    EXPECT_THAT(std::string(CheckPriority(priority).message()), HasSubstr("priority"));
  }
  const auto score = [](int continuations, int top) {
    v1::ScoreRequest request;
    for (int i = 0; i < continuations; ++i) request.add_continuations();
    request.set_top_logprobs(top);
    return CheckScoreOptions(request);
  };
  EXPECT_TRUE(score(1, 0).ok());
  EXPECT_TRUE(score(256, 20).ok());
  EXPECT_THAT(std::string(score(0, 0).message()), HasSubstr("continuations has 0"));
  EXPECT_THAT(std::string(score(257, 0).message()), HasSubstr("continuations has 257"));
  for (const int top : {-1, 21, 1'000'000'000}) {
    EXPECT_THAT(std::string(score(1, top).message()), HasSubstr("top_logprobs"));
  }
}

struct Refusal {
  const char* name;
  std::function<void(v1::SamplingOptions&)> change;
  const char* message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class RefusedTogether : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedTogether, NamesTheField) {
  v1::SamplingOptions options;
  GetParam().change(options);
  const absl::Status status =
      CheckSampling(options, {.prompt_tokens = 10,
                              .context_tokens = 10'000,
                              .told_tokens = 5'000,
                              .vocab_size = kVocab})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

const Refusal kRefusals[] = {
    {"min_above_max",
     [](auto& o) {
       o.set_max_tokens(5);
       o.set_min_tokens(6);
     },
     "sampling.min_tokens is 6; expected 0 .. 5"},
    {"bias_of_no_token", [](auto& o) { (*o.mutable_logit_bias())[kVocab] = 1; },
     "sampling.logit_bias[1000] names no token"},
    {"bias_of_a_negative_id", [](auto& o) { (*o.mutable_logit_bias())[-1] = 1; },
     "sampling.logit_bias[-1] names no token"},
    {"many_biases",
     [](auto& o) {
       for (int i = 0; i < 1025; ++i) (*o.mutable_logit_bias())[i] = 0;
     },
     "sampling.logit_bias has 1025 entries; expected at most 1024"},
    {"many_stop_ids",
     [](auto& o) {
       for (int i = 0; i < 129; ++i) o.add_stop_token_ids(1);
     },
     "sampling.stop_token_ids has 129 entries"},
    {"many_stop_strings",
     [](auto& o) {
       for (int i = 0; i < 100'000; ++i) o.add_stop(std::string(1, 'x'));
     },
     "sampling.stop has 100000 entries"},
    {"many_bad_words",
     [](auto& o) {
       for (int i = 0; i < 65; ++i) o.add_bad_words(std::string(1, 'x'));
     },
     "sampling.bad_words has 65 entries"},
    {"an_empty_bad_word", [](auto& o) { o.add_bad_words(std::string()); }, "sampling.bad_words[0] has 0 bytes"},
    {"a_long_bad_word", [](auto& o) { o.add_bad_words(std::string(257, 'x')); },
     "sampling.bad_words[0] has 257 bytes"},
    {"more_prompt_logprobs_than_a_message_holds", [](auto& o) { o.set_prompt_logprobs(20); },
     "sampling.prompt_logprobs asks for 105000"},
    {"structured_without_end",
     [](auto& o) {
       o.mutable_structured()->set_json_object(true);
       o.set_ignore_eos(true);
     },
     "sampling.ignore_eos cannot be combined"},
    {"structured_with_min_tokens",
     [](auto& o) {
       o.mutable_structured()->set_json_object(true);
       o.set_min_tokens(1);
     },
     "sampling.min_tokens cannot be combined"},
    {"structured_with_bad_words",
     [](auto& o) {
       o.mutable_structured()->set_json_object(true);
       o.add_bad_words(std::string(1, 'x'));
     },
     "sampling.bad_words cannot be combined"},
};

INSTANTIATE_TEST_SUITE_P(SamplingBounds, RefusedTogether, ::testing::ValuesIn(kRefusals),
                         [](const auto& test) { return test.param.name; });

TEST(SamplingBounds, EverythingReachesTheParameters) {
  v1::SamplingOptions options;
  options.set_repetition_penalty(1.5f);
  options.set_presence_penalty(-0.5f);
  options.set_frequency_penalty(0.25f);
  (*options.mutable_logit_bias())[3] = -100;
  for (const int id : {9, 8, 9}) options.add_stop_token_ids(id);
  options.set_min_tokens(50);
  options.set_n(3);
  options.set_prompt_logprobs(0);
  const auto checked =
      CheckSampling(options, {.prompt_tokens = 90, .context_tokens = 100, .vocab_size = kVocab});
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->params.repetition_penalty(), 1.5f);
  EXPECT_EQ(checked->params.presence_penalty(), -0.5f);
  EXPECT_EQ(checked->params.frequency_penalty(), 0.25f);
  EXPECT_THAT(checked->params.bias_ids(), ::testing::ElementsAre(3));
  EXPECT_THAT(checked->params.bias_values(), ::testing::ElementsAre(-100));
  EXPECT_THAT(checked->stop_token_ids, ::testing::ElementsAre(8, 9));
  EXPECT_EQ(checked->max_tokens, 10);
  EXPECT_EQ(checked->min_tokens, 10) << "cut to what the context leaves";
  EXPECT_EQ(checked->choices, 3);
  EXPECT_EQ(checked->prompt_logprobs, 0);
}

TEST(SamplingBounds, WordsNeedATokenizer) {
  v1::SamplingOptions words, structured;
  words.add_bad_words(std::string(1, 'x'));
  structured.mutable_structured()->set_json_object(true);
  for (const auto& options : {words, structured}) {
    const auto checked = CheckSampling(options, {.context_tokens = 10, .has_tokenizer = false});
    EXPECT_THAT(std::string(checked.status().message()), HasSubstr("no tokenizer"));
  }
}

}  // namespace
}  // namespace tessera::coordinator
