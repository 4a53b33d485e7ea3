// What kernels/ uses of Abseil, in a few lines: for machines that have CUDA and a compiler but no
// packages (tests/gpu.sh, benchmarks/gpu.sh). Where Abseil is installed it is used instead. The same
// names and meanings; no more of them than kernels/ needs.
#ifndef TESSERA_TESTS_GPU_STANDALONE_TINY_ABSL_H_
#define TESSERA_TESTS_GPU_STANDALONE_TINY_ABSL_H_

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace absl {

using string_view = std::string_view;

enum class StatusCode {
  kOk = 0,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kUnimplemented = 12,
  kInternal = 13,
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, string_view message) : code_(code), message_(message) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  string_view message() const { return message_; }
  std::string ToString() const { return ok() ? "OK" : message_; }
  void IgnoreError() const {}

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};
inline std::ostream& operator<<(std::ostream& out, const Status& status) {
  return out << status.ToString();
}
inline Status OkStatus() { return {}; }
inline Status InvalidArgumentError(string_view m) { return {StatusCode::kInvalidArgument, m}; }
inline Status NotFoundError(string_view m) { return {StatusCode::kNotFound, m}; }
inline Status ResourceExhaustedError(string_view m) { return {StatusCode::kResourceExhausted, m}; }
inline Status UnimplementedError(string_view m) { return {StatusCode::kUnimplemented, m}; }
inline Status InternalError(string_view m) { return {StatusCode::kInternal, m}; }

template <typename T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(const Status& status) : status_(status) {}  // NOLINT: implicit, as the original
  StatusOr(Status&& status) : status_(std::move(status)) {}  // NOLINT
  template <typename U>
    requires(std::is_constructible_v<T, U &&> && !std::is_same_v<std::decay_t<U>, StatusOr> &&
             !std::is_same_v<std::decay_t<U>, Status>)
  StatusOr(U&& value) : value_(std::forward<U>(value)) {}  // NOLINT

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return Get(); }
  T&& value() && { return std::move(Get()); }
  T& operator*() & { return Get(); }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(Get()); }
  T* operator->() { return &Get(); }
  template <typename U>
  T value_or(U&& otherwise) const {
    return ok() ? *value_ : static_cast<T>(std::forward<U>(otherwise));
  }

 private:
  T& Get() {
    if (!ok()) {
      std::fprintf(stderr, "value of a failed StatusOr: %s\n", status_.ToString().c_str());
      std::abort();
    }
    return *value_;
  }

  Status status_;
  std::optional<T> value_;
};

template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}
template <typename... Parts>
void StrAppend(std::string* to, const Parts&... parts) {
  *to += StrCat(parts...);
}
template <typename Range>
std::string StrJoin(const Range& range, string_view separator) {
  std::ostringstream out;
  bool first = true;
  for (const auto& item : range) {
    if (!std::exchange(first, false)) out << separator;
    out << item;
  }
  return out.str();
}

template <typename T>
class Span {
 public:
  Span() = default;
  Span(T* data, size_t size) : data_(data), size_(size) {}
  template <typename Container>
    requires requires(Container& c) { { c.data() } -> std::convertible_to<T*>; c.size(); }
  Span(Container& c) : data_(c.data()), size_(c.size()) {}  // NOLINT: implicit
  Span(std::initializer_list<std::remove_const_t<T>> list)  // NOLINT: implicit
    requires std::is_const_v<T>
  {
    data_ = list.begin();  // for the length of the call that it is an argument of
    size_ = list.size();
  }

  T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

template <typename Signature>
class FunctionRef;
template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F>
    requires(!std::is_same_v<std::decay_t<F>, FunctionRef>)
  FunctionRef(F&& f)  // NOLINT: implicit
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace absl

#endif  // TESSERA_TESTS_GPU_STANDALONE_TINY_ABSL_H_
