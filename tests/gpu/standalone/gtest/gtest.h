// What the device suite (tests/kernels) uses of GoogleTest, in a few lines, for machines that have
// CUDA and a compiler but no packages (tests/gpu.sh). Where GoogleTest is installed it is used
// instead. Runs every test of every parameter; --gtest_filter=TEXT runs those whose name contains it.
#ifndef TESSERA_TESTS_GPU_STANDALONE_GTEST_GTEST_H_
#define TESSERA_TESTS_GPU_STANDALONE_GTEST_GTEST_H_

#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace testing {

struct Run {
  bool failed = false;
  bool skipped = false;
};
inline Run& Current() {
  static Run run;
  return run;
}

class Message {
 public:
  template <typename T>
  Message& operator<<(const T& value) {
    text_ << value;
    return *this;
  }
  std::string str() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

enum class Kind { kFailure, kSkip };
// `Outcome(...) = Message() << ...` is an expression of type void, so that it can follow `return`.
class Outcome {
 public:
  Outcome(Kind kind, const char* file, int line, std::string what)
      : kind_(kind), file_(file), line_(line), what_(std::move(what)) {}
  void operator=(const Message& message) const {
    if (kind_ == Kind::kSkip) {
      Current().skipped = true;
      return;
    }
    Current().failed = true;
    std::cout << file_ << ":" << line_ << ": " << what_ << " " << message.str() << "\n";
  }

 private:
  Kind kind_;
  const char* file_;
  int line_;
  std::string what_;
};

class Test {
 public:
  virtual ~Test() = default;
  virtual void TestBody() = 0;

 protected:
  void RecordProperty(const std::string&, const std::string&) {}
};

template <typename T>
class TestWithParam : public Test {
 public:
  using ParamType = T;
  static const T*& Param() {
    static const T* param = nullptr;
    return param;
  }
  const T& GetParam() const { return *Param(); }
};

template <typename T>
struct TestParamInfo {
  T param;
  size_t index;
};

struct Case {
  std::string name;
  std::function<void()> run;
};
inline std::vector<Case>& AllCases() {
  static std::vector<Case> cases;
  return cases;
}

// The tests of a suite and the parameters they run over; both are known only when all has started.
template <typename Suite>
struct Suites {
  struct Body {
    std::string name;
    std::function<std::unique_ptr<Test>()> make;
  };
  static std::vector<Body>& Bodies() {
    static std::vector<Body> bodies;
    return bodies;
  }
  static bool Add(const char* name, std::function<std::unique_ptr<Test>()> make) {
    Bodies().push_back({name, std::move(make)});
    return true;
  }
  template <typename Params, typename Namer>
  static bool Instantiate(const char* suite, Params params, Namer namer) {
    AllCases().push_back({"", [suite, params, namer] {
      for (const auto& param : params) {
        const typename Suite::ParamType value(param);
        for (const Body& body : Bodies()) {
          AllCases().push_back({std::string(suite) + "." + body.name + "/" +
                                    namer(TestParamInfo<typename Suite::ParamType>{value, 0}),
                                [make = body.make, value] {
                                  Suite::Param() = &value;
                                  make()->TestBody();
                                }});
        }
      }
    }});
    return true;
  }
};

template <typename Container>
std::vector<typename Container::value_type> ValuesIn(const Container& values) {
  return {values.begin(), values.end()};
}
template <typename A, typename B>
std::vector<std::tuple<A, B>> Combine(const std::vector<A>& a, const std::vector<B>& b) {
  std::vector<std::tuple<A, B>> all;
  for (const A& x : a) {
    for (const B& y : b) all.emplace_back(x, y);
  }
  return all;
}

inline int RunAll(int argc, char** argv) {
  std::string filter;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.rfind("--gtest_filter=", 0) == 0) filter = arg.substr(15);
  }
  const std::vector<Case> suites = std::exchange(AllCases(), {});
  for (const Case& suite : suites) suite.run();
  int passed = 0, failed = 0, skipped = 0;
  for (const Case& test : std::vector<Case>(AllCases())) {
    if (test.name.find(filter) == std::string::npos) continue;
    Current() = Run();
    test.run();
    if (Current().failed) std::cout << "FAILED " << test.name << std::endl;
    ++(Current().failed ? failed : Current().skipped ? skipped : passed);
  }
  std::cout << passed << " passed, " << failed << " failed, " << skipped << " skipped" << std::endl;
  return failed == 0 ? 0 : 1;
}

}  // namespace testing

#define TESSERA_OUTCOME(kind, what) \
  ::testing::Outcome(::testing::Kind::kind, __FILE__, __LINE__, what) = ::testing::Message()
#define TESSERA_EXPECT(condition, what) \
  if (condition) {                      \
  } else                                \
    TESSERA_OUTCOME(kFailure, what)
#define TESSERA_ASSERT(condition, what) \
  if (condition) {                      \
  } else                                \
    return TESSERA_OUTCOME(kFailure, what)

#define EXPECT_TRUE(condition) TESSERA_EXPECT(condition, #condition)
#define EXPECT_FALSE(condition) TESSERA_EXPECT(!(condition), "not " #condition)
#define EXPECT_EQ(a, b) TESSERA_EXPECT((a) == (b), #a " == " #b)
#define EXPECT_NE(a, b) TESSERA_EXPECT((a) != (b), #a " != " #b)
#define EXPECT_LE(a, b) TESSERA_EXPECT((a) <= (b), #a " <= " #b)
#define ASSERT_TRUE(condition) TESSERA_ASSERT(condition, #condition)
#define ASSERT_EQ(a, b) TESSERA_ASSERT((a) == (b), #a " == " #b)
#define ASSERT_LE(a, b) TESSERA_ASSERT((a) <= (b), #a " <= " #b)
#define ADD_FAILURE() TESSERA_OUTCOME(kFailure, "failure:")
#define GTEST_SKIP() return TESSERA_OUTCOME(kSkip, "skipped:")

#define TEST_P(suite, name)                                                            \
  class suite##_##name : public suite {                                                \
   public:                                                                             \
    void TestBody() override;                                                          \
  };                                                                                   \
  [[maybe_unused]] const bool suite##_##name##_added = ::testing::Suites<suite>::Add(  \
      #name, [] { return std::unique_ptr<::testing::Test>(new suite##_##name); });     \
  void suite##_##name::TestBody()

#define INSTANTIATE_TEST_SUITE_P(prefix, suite, params, ...)                    \
  [[maybe_unused]] const bool suite##_instantiated =                            \
      ::testing::Suites<suite>::Instantiate(#suite, params, __VA_ARGS__)

#endif  // TESSERA_TESTS_GPU_STANDALONE_GTEST_GTEST_H_
