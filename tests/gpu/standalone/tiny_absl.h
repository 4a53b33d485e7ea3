// What kernels/ and the worker's core use of Abseil, in a few lines: for machines that have CUDA
// and a compiler but no packages (tests/gpu.sh, benchmarks/gpu.sh). The same names and meanings; no
// more of them than is needed there.
#ifndef TESSERA_TESTS_GPU_STANDALONE_TINY_ABSL_H_
#define TESSERA_TESTS_GPU_STANDALONE_TINY_ABSL_H_

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
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
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
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
  friend bool operator==(const Status&, const Status&) = default;

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
inline Status FailedPreconditionError(string_view m) {
  return {StatusCode::kFailedPrecondition, m};
}
inline Status DeadlineExceededError(string_view m) { return {StatusCode::kDeadlineExceeded, m}; }
inline Status AbortedError(string_view m) { return {StatusCode::kAborted, m}; }
inline Status CancelledError(string_view m) { return {StatusCode::kCancelled, m}; }
inline bool IsDeadlineExceeded(const Status& s) {
  return s.code() == StatusCode::kDeadlineExceeded;
}
inline bool IsAborted(const Status& s) { return s.code() == StatusCode::kAborted; }
inline bool IsCancelled(const Status& s) { return s.code() == StatusCode::kCancelled; }
inline Status ErrnoToStatus(int number, string_view m) {
  return {StatusCode::kUnknown, std::string(m) + ": " + std::strerror(number)};
}

template <typename T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(const Status& status) : status_(status) {}  // NOLINT: implicit, as the original
  StatusOr(Status&& status) : status_(std::move(status)) {}  // NOLINT
  template <typename U>
    requires(std::is_constructible_v<T, U &&> && !std::is_same_v<std::decay_t<U>, StatusOr> &&
             !std::is_same_v<std::decay_t<U>, Status>)
  StatusOr(U&& value)  // NOLINT
      : value_(std::in_place, std::forward<U>(value)) {}  // so that nullopt is a value too

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return Get(); }
  T&& value() && { return std::move(Get()); }
  T& operator*() & { return Get(); }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(Get()); }
  T* operator->() { return &Get(); }
  const T* operator->() const { return &*value_; }
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
// format(std::string* out, item) appends an item.
template <typename Range, typename Format>
std::string StrJoin(const Range& range, string_view separator, const Format& format) {
  std::string out;
  bool first = true;
  for (const auto& item : range) {
    if (!std::exchange(first, false)) out += separator;
    format(&out, item);
  }
  return out;
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

inline bool StartsWith(string_view text, string_view with) { return text.starts_with(with); }
inline bool EndsWith(string_view text, string_view with) { return text.ends_with(with); }
inline bool StrContains(string_view text, string_view what) {
  return text.find(what) != string_view::npos;
}
inline std::string StrReplaceAll(
    string_view text, std::initializer_list<std::pair<string_view, string_view>> replacements) {
  std::string out(text);
  for (const auto& [from, to] : replacements) {
    for (size_t at = 0; (at = out.find(from, at)) != std::string::npos; at += to.size()) {
      out.replace(at, from.size(), to);
    }
  }
  return out;
}
inline std::string CHexEscape(string_view text) {
  std::string out;
  for (const char c : text) {
    char escaped[8];
    std::snprintf(escaped, sizeof(escaped), c < ' ' || c > '~' ? "\\x%02x" : "%c",
                  static_cast<unsigned char>(c));
    out += escaped;
  }
  return out;
}
class Hex {
 public:
  explicit Hex(uint64_t value) : value_(value) {}
  friend std::ostream& operator<<(std::ostream& out, const Hex& hex) {
    std::ostringstream digits;
    digits << std::hex << hex.value_;
    return out << digits.str();
  }

 private:
  uint64_t value_;
};

template <typename T>
class Span {
 public:
  static constexpr size_t npos = static_cast<size_t>(-1);

  constexpr Span() = default;
  Span(T* data, size_t size) : data_(data), size_(size) {}
  template <typename Container>
    requires requires(Container& c) { { c.data() } -> std::convertible_to<T*>; c.size(); }
  Span(Container& c)  // NOLINT: implicit
      : data_(c.data()), size_(static_cast<size_t>(c.size())) {}
  template <typename Container>
    requires(std::is_const_v<T> && requires(const Container& c) {
              { c.data() } -> std::convertible_to<T*>;
              c.size();
            })
  Span(const Container& c)  // NOLINT: implicit
      : data_(c.data()), size_(static_cast<size_t>(c.size())) {}
  template <size_t kSize>
  constexpr Span(T (&array)[kSize]) : data_(array), size_(kSize) {}  // NOLINT: implicit
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
  T& front() const { return data_[0]; }
  T& back() const { return data_[size_ - 1]; }
  Span subspan(size_t first, size_t count = npos) const {
    return Span(data_ + first, count < size_ - first ? count : size_ - first);
  }
  Span first(size_t count) const { return subspan(0, count); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};
template <typename T>
Span<T> MakeSpan(T* data, size_t size) {
  return {data, size};
}
template <typename Container>
auto MakeSpan(Container& c) {
  return Span<std::remove_pointer_t<decltype(c.data())>>(c.data(), c.size());
}
template <typename T>
Span<const T> MakeConstSpan(const T* data, size_t size) {
  return {data, size};
}
template <typename Container>
auto MakeConstSpan(const Container& c) {
  return Span<std::remove_pointer_t<decltype(c.data())>>(c.data(), c.size());
}

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

// Lengths of time, to the nanosecond.
class Duration {
 public:
  constexpr Duration() = default;
  constexpr explicit Duration(int64_t nanoseconds) : nanoseconds_(nanoseconds) {}
  constexpr int64_t nanoseconds() const { return nanoseconds_; }
  friend constexpr auto operator<=>(const Duration&, const Duration&) = default;
  friend constexpr Duration operator/(Duration d, int64_t by) {
    return Duration(d.nanoseconds_ / by);
  }
  friend constexpr Duration operator*(Duration d, int64_t by) {
    return Duration(d.nanoseconds_ * by);
  }
  friend constexpr Duration operator+(Duration a, Duration b) {
    return Duration(a.nanoseconds_ + b.nanoseconds_);
  }
  friend constexpr Duration operator-(Duration a, Duration b) {
    return Duration(a.nanoseconds_ - b.nanoseconds_);
  }

 private:
  int64_t nanoseconds_ = 0;
};
constexpr Duration ZeroDuration() { return {}; }
constexpr Duration Nanoseconds(int64_t n) { return Duration(n); }
constexpr Duration Microseconds(int64_t n) { return Duration(n * 1000); }
constexpr Duration Milliseconds(int64_t n) { return Duration(n * 1000000); }
constexpr Duration Seconds(int64_t n) { return Milliseconds(n * 1000); }
constexpr Duration Minutes(int64_t n) { return Seconds(n * 60); }
constexpr Duration Hours(int64_t n) { return Minutes(n * 60); }
inline int64_t ToInt64Microseconds(Duration d) { return d.nanoseconds() / 1000; }
inline double ToDoubleSeconds(Duration d) { return static_cast<double>(d.nanoseconds()) * 1e-9; }
inline std::chrono::nanoseconds ToChronoNanoseconds(Duration d) {
  return std::chrono::nanoseconds(d.nanoseconds());
}
template <typename Rep, typename Period>
Duration FromChrono(const std::chrono::duration<Rep, Period>& d) {
  return Duration(std::chrono::duration_cast<std::chrono::nanoseconds>(d).count());
}
inline std::chrono::hours ToChronoHours(Duration d) {
  return std::chrono::hours(d.nanoseconds() / Hours(1).nanoseconds());
}

class Time {
 public:
  constexpr Time() = default;
  constexpr explicit Time(Duration since_epoch) : since_epoch_(since_epoch) {}
  constexpr Duration since_epoch() const { return since_epoch_; }
  friend constexpr auto operator<=>(const Time&, const Time&) = default;
  friend constexpr Time operator+(Time t, Duration d) { return Time(t.since_epoch_ + d); }
  friend constexpr Duration operator-(Time a, Time b) { return a.since_epoch_ - b.since_epoch_; }

 private:
  Duration since_epoch_;
};

inline Time Now() { return Time(FromChrono(std::chrono::system_clock::now().time_since_epoch())); }
inline std::chrono::system_clock::time_point ToChronoTime(Time t) {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::nanoseconds(t.since_epoch().nanoseconds())));
}
inline std::string FormatDuration(Duration d) { return StrCat(ToDoubleSeconds(d), "s"); }
inline std::ostream& operator<<(std::ostream& out, Duration d) { return out << FormatDuration(d); }

}  // namespace absl

#endif  // TESSERA_TESTS_GPU_STANDALONE_TINY_ABSL_H_
