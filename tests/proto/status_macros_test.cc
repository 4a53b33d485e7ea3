#include "proto/base/status_macros.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace tessera {
namespace {

absl::Status Check(const absl::Status& status, int* evaluated, bool* reached) {
  const auto evaluate = [&] {
    ++*evaluated;
    return status;
  };
  TESSERA_RETURN_IF_ERROR(evaluate());
  *reached = true;
  return absl::OkStatus();
}

TEST(StatusMacrosTest, ReturnIfError) {
  int evaluated = 0;
  bool reached = false;
  EXPECT_EQ(Check(absl::NotFoundError("gone"), &evaluated, &reached), absl::NotFoundError("gone"));
  EXPECT_EQ(evaluated, 1);
  EXPECT_FALSE(reached);
  EXPECT_EQ(Check(absl::OkStatus(), &evaluated, &reached), absl::OkStatus());
  EXPECT_EQ(evaluated, 2);
  EXPECT_TRUE(reached);
}

TEST(StatusMacrosTest, ReturnIfErrorIsOneStatement) {
  const auto nested = [](bool check) -> absl::Status {
    if (check)
      TESSERA_RETURN_IF_ERROR(absl::AbortedError("checked"));
    else
      return absl::CancelledError("not checked");
    return absl::OkStatus();
  };
  EXPECT_EQ(nested(true).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(nested(false).code(), absl::StatusCode::kCancelled);
}

// Move-only values, two of them in one scope.
absl::StatusOr<int> Sum(absl::StatusOr<std::unique_ptr<int>> a,
                        absl::StatusOr<std::unique_ptr<int>> b) {
  TESSERA_ASSIGN_OR_RETURN(const std::unique_ptr<int> first, std::move(a));
  std::unique_ptr<int> second;
  TESSERA_ASSIGN_OR_RETURN(second, std::move(b));
  return *first + *second;
}

TEST(StatusMacrosTest, AssignOrReturn) {
  EXPECT_EQ(*Sum(std::make_unique<int>(2), std::make_unique<int>(3)), 5);
  EXPECT_EQ(Sum(absl::DataLossError("a"), std::make_unique<int>(3)).status(),
            absl::DataLossError("a"));
  EXPECT_EQ(Sum(std::make_unique<int>(2), absl::DataLossError("b")).status(),
            absl::DataLossError("b"));
}

}  // namespace
}  // namespace tessera
