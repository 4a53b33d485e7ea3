// The table of sampling fields beside the message that it describes: its fields, their types, and
// what inference.proto's comments say of ranges and defaults.
#include "proto/model/sampling_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::model {
namespace {

using google::protobuf::FieldDescriptor;
using ::testing::IsEmpty;

FieldDescriptor::Type TypeOf(SamplingKind kind) {
  switch (kind) {
    case SamplingKind::kInt:
    case SamplingKind::kTokenIds:
      return FieldDescriptor::TYPE_INT32;
    case SamplingKind::kFloat:
      return FieldDescriptor::TYPE_FLOAT;
    case SamplingKind::kSeed:
      return FieldDescriptor::TYPE_UINT64;
    case SamplingKind::kBool:
      return FieldDescriptor::TYPE_BOOL;
    case SamplingKind::kTexts:
      return FieldDescriptor::TYPE_STRING;
    case SamplingKind::kBias:
    case SamplingKind::kStructured:
      break;
  }
  return FieldDescriptor::TYPE_MESSAGE;
}

TEST(SamplingFields, AreTheMessages) {
  const auto& message = *v1::SamplingOptions::descriptor();
  ASSERT_EQ(static_cast<size_t>(message.field_count()), std::size(kSamplingFields));
  for (int i = 0; i < message.field_count(); ++i) {
    const SamplingField& field = kSamplingFields[i];
    EXPECT_EQ(message.field(i)->name(), field.name);
    EXPECT_EQ(message.field(i)->type(), TypeOf(field.kind)) << field.name;
    EXPECT_EQ(message.field(i)->is_repeated(), field.most > 0) << field.name;
    EXPECT_NE(std::string(field.help), "") << field.name;
    const bool number = field.kind == SamplingKind::kInt || field.kind == SamplingKind::kFloat;
    if (!number) continue;
    EXPECT_LT(field.range.lowest, field.range.highest) << field.name;
    EXPECT_TRUE(field.standard || field.otherwise[0] != '\0') << field.name;
    EXPECT_TRUE(!field.standard || Allows(field, *field.standard)) << field.name;
  }
}

// "0 .. 100; default 1": what the comment of a field must begin with.
std::string Expected(const SamplingField& field) {
  std::vector<std::string> parts;
  if (const std::string range = ValuesText(field); !range.empty()) parts.push_back(range);
  if (const std::string standard = DefaultText(field); !standard.empty()) {
    parts.push_back(absl::StrCat(field.standard ? "default " : "default: ", standard));
  }
  return absl::StrJoin(parts, "; ");
}

// Whatever says of `field` something else than the table does.
std::vector<std::string> Drift(const SamplingField& field, const std::string& comment) {
  const std::string expected = Expected(field);
  if (comment == expected || absl::StartsWith(comment, expected + "; ")) return {};
  if (expected.empty() && !std::regex_search(comment, std::regex("\\.\\.|default|at most"))) {
    return {};
  }
  return {absl::StrCat(field.name, ": the comment is \"", comment, "\"; expected it to begin \"",
                       expected, "\"")};
}

// Field name → its comment, in every message of the file: behind it on its line, else before it.
std::multimap<std::string, std::string> CommentsOf(const std::string& path) {
  std::ifstream file(path);
  std::multimap<std::string, std::string> comments;
  const std::regex field("^ +(?:[a-z]+ )?[A-Za-z0-9<>, ]+ ([a-z_]+) = [0-9]+;(?: *// (.*))?$");
  const std::regex comment("^ *// (.*)$");
  std::string line, before;
  std::smatch match;
  while (std::getline(file, line)) {
    if (std::regex_match(line, match, field)) {
      comments.emplace(match[1], match[2].matched ? match[2].str() : before);
    }
    before = std::regex_match(line, match, comment) ? match[1].str() : "";
  }
  return comments;
}

TEST(SamplingFields, TheProtosCommentsSayTheSame) {
  const auto comments =
      CommentsOf(absl::StrCat(TESSERA_SOURCE_DIR, "/proto/tessera/v1/inference.proto"));
  const auto compare = [&](const SamplingField& field) {
    const auto [begin, end] = comments.equal_range(field.name);
    EXPECT_NE(begin, end) << field.name << " was not found in the file";
    for (auto it = begin; it != end; ++it) {
      // A later message speaks of another thing by the same name.
      if (it != begin && it->second.find("..") == std::string::npos) continue;
      EXPECT_THAT(Drift(field, it->second), IsEmpty());
    }
  };
  for (const SamplingField& field : kSamplingFields) compare(field);
  compare(kPriority);
  compare(kTopLogprobs);
  compare(kContinuations);
}

TEST(SamplingFields, DriftIsSeen) {
  EXPECT_THAT(Drift(kTemperature, "0 .. 100; default 1; 0: greedy"), IsEmpty());
  EXPECT_EQ(Drift(kTemperature, "0 .. 10; default 1").size(), 1u);
  EXPECT_EQ(Drift(kTemperature, "0 .. 100; default 10").size(), 1u);
  EXPECT_EQ(Drift(kTemperature, "").size(), 1u);
  EXPECT_EQ(Drift(kIgnoreEos, "default true").size(), 1u);
}

TEST(SamplingFields, RangesAndRefusalsReadWell) {
  EXPECT_EQ(WhyRefused(kTopP, 0), "is 0; expected more than 0 .. 1");
  EXPECT_EQ(WhyRefused(kTopP, std::nanf("")), "is NaN; expected more than 0 .. 1");
  EXPECT_EQ(WhyRefused(kTopK, 16777217), "is 16777217; expected -1 .. 16777216");
  EXPECT_EQ(ValuesText(kLogitBias), "at most 1024 ids; -100 .. 100");
  EXPECT_EQ(DefaultText(kMaxTokens), "what the context leaves");
  EXPECT_FALSE(Allows(kTemperature, std::nan("")));
  EXPECT_FALSE(Allows(kTopP, 0));
  EXPECT_TRUE(Allows(kTopP, std::numeric_limits<float>::min()));
}

TEST(SamplingFields, NumbersAreReadByTheirKind) {
  v1::SamplingOptions options;
  EXPECT_EQ(NumberIn(options, kTemperature), std::nullopt);
  SetFloat(kTemperature, 0.5f, &options);
  SetInt(kN, 3, &options);
  SetSeed(kSeed, 7, &options);
  AddText(kStop, "a", &options);
  EXPECT_EQ(NumberIn(options, kTemperature), 0.5);
  EXPECT_EQ(NumberIn(options, kN), 3);
  EXPECT_EQ(NumberIn(options, kSeed), std::nullopt);
  EXPECT_EQ(options.temperature(), 0.5f);
  EXPECT_EQ(options.n(), 3);
  EXPECT_EQ(options.seed(), 7u);
  EXPECT_EQ(options.stop(0), "a");
}

}  // namespace
}  // namespace tessera::model
