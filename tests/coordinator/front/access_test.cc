#include "coordinator/front/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class AccessTest : public ::testing::Test {
 protected:
  ~AccessTest() override { std::remove(path_.c_str()); }

  absl::StatusOr<std::unique_ptr<const Access>> Read(const std::string& json,
                                                     std::vector<std::string> keys = {}) {
    std::ofstream(path_) << json;
    return Access::Create({.api_keys = std::move(keys), .tenants_file = path_});
  }
  static std::string Tenant(const Access& access, const std::string& authorization,
                            const std::string& tenant) {
    const auto admitted = access.Admit(authorization, tenant);
    return admitted.ok() ? *admitted : absl::StrCat("refused ", admitted.status().ToString());
  }
  static absl::StatusCode Code(const Access& access, const std::string& authorization,
                               const std::string& tenant) {
    return access.Admit(authorization, tenant).status().code();
  }

  const std::string path_ = absl::StrCat(
      ::testing::TempDir(), "/tenants-",
      ::testing::UnitTest::GetInstance()->current_test_info()->name(), ".json");
};

TEST_F(AccessTest, WithoutKeysEverybodyMayNameATenant) {
  const auto access = Access::Create({});
  ASSERT_TRUE(access.ok());
  EXPECT_FALSE((*access)->asks_for_keys());
  EXPECT_EQ(Tenant(**access, "", ""), "");
  EXPECT_EQ(Tenant(**access, "", "search"), "search");
  EXPECT_EQ(Tenant(**access, "Bearer whatever", "search"), "search");
}

TEST_F(AccessTest, AKeyIsAskedForOnceThereIsOne) {
  const auto access = Access::Create({.api_keys = {"secret", "other"}});
  ASSERT_TRUE(access.ok());
  EXPECT_TRUE((*access)->asks_for_keys());
  EXPECT_EQ(Tenant(**access, "Bearer secret", ""), "");
  EXPECT_EQ(Tenant(**access, "bearer other", "search"), "search");
  for (const char* wrong : {"", "secret", "Bearer ", "Bearer secre", "Bearer secrets",
                            "Bearer Secret", "Basic secret"}) {
    EXPECT_EQ(Code(**access, wrong, ""), absl::StatusCode::kUnauthenticated) << wrong;
  }
}

TEST_F(AccessTest, RefusalsDoNotRepeatTheKey) {
  const auto access = Access::Create({.api_keys = {"secret"}});
  const std::string message((*access)->Admit("Bearer mine", "").status().message());
  EXPECT_EQ(message.find("mine"), std::string::npos);
  EXPECT_EQ(message.find("secret"), std::string::npos);
}

TEST_F(AccessTest, TenantNamesAreShortAndPrintable) {
  const auto access = Access::Create({});
  EXPECT_EQ(Tenant(**access, "", std::string(128, 't')), std::string(128, 't'));
  EXPECT_EQ(Code(**access, "", std::string(129, 't')), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code(**access, "", "a\nb"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code(**access, "", "b\xC3\xA4r"), absl::StatusCode::kInvalidArgument);
}

TEST_F(AccessTest, ATenantsKeyDecidesByItself) {
  const auto access = Read(R"({"tenants": [
      {"name": "search", "weight": 3, "api_keys": ["sk-s1", "sk-s2"]},
      {"name": "ads", "api_keys": ["sk-a"]},
      {"name": "free"}], "default_weight": 0.5})", {"sk-any"});
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(Tenant(**access, "Bearer sk-s2", ""), "search");
  EXPECT_EQ(Tenant(**access, "Bearer sk-s1", "search"), "search");
  EXPECT_EQ(Code(**access, "Bearer sk-s1", "ads"), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Code(**access, "Bearer sk-any", "ads"), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Tenant(**access, "Bearer sk-any", "free"), "free");
  EXPECT_EQ(Tenant(**access, "Bearer sk-any", ""), "");
  EXPECT_EQ(Code(**access, "", "free"), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT((*access)->weights(),
              UnorderedElementsAre(Pair("search", 3), Pair("ads", 0.5), Pair("free", 0.5)));
}

TEST_F(AccessTest, AFileThatIsWrongSaysWhere) {
  const struct {
    const char* json;
    const char* place;
  } cases[] = {
      {"{", "is not JSON"},
      {"[]", "expected an object"},
      {"{}", "at /tenants: expected an array"},
      {R"({"tenants": [{}]})", "at /tenants/0/name"},
      {R"({"tenants": [{"name": ""}]})", "at /tenants/0/name"},
      {R"({"tenants": [{"name": "a"}, {"name": "a"}]})", "at /tenants/1/name: 'a' stands here"},
      {R"({"tenants": [{"name": "a", "weight": 0}]})", "at /tenants/0/weight"},
      {R"({"tenants": [{"name": "a", "weight": -1}]})", "at /tenants/0/weight"},
      {R"({"tenants": [{"name": "a", "weight": 1e9}]})", "at /tenants/0/weight"},
      {R"({"tenants": [{"name": "a", "weight": "3"}]})", "at /tenants/0/weight"},
      {R"({"tenants": [], "default_weight": 0})", "at /default_weight"},
      {R"({"tenants": [{"name": "a", "api_keys": "k"}]})", "at /tenants/0/api_keys"},
      {R"({"tenants": [{"name": "a", "api_keys": [""]}]})", "at /tenants/0/api_keys/0"},
      {R"({"tenants": [{"name": "a", "api_keys": ["k", "k"]}]})", "at /tenants/0/api_keys/1"},
      {R"({"tenants": [{"name": "a", "wieght": 1}]})", "is not a known field"},
  };
  for (const auto& test : cases) {
    const auto access = Read(test.json);
    EXPECT_EQ(access.status().code(), absl::StatusCode::kInvalidArgument) << test.json;
    EXPECT_THAT(std::string(access.status().message()), HasSubstr(test.place));
    EXPECT_THAT(std::string(access.status().message()), HasSubstr("--tenants-file"));
  }
  EXPECT_THAT(std::string(Access::Create({.tenants_file = "/no/such"}).status().message()),
              HasSubstr("/no/such"));
  EXPECT_FALSE(Access::Create({.api_keys = {""}}).ok());
}

}  // namespace
}  // namespace tessera::coordinator
