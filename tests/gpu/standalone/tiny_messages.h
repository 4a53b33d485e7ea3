// What make_messages.py builds its classes from: fields with Protobuf's accessors, and bytes that
// programs of one build understand. No more of it than worker/ and its tests need.
#ifndef TESSERA_TESTS_GPU_STANDALONE_TINY_MESSAGES_H_
#define TESSERA_TESTS_GPU_STANDALONE_TINY_MESSAGES_H_

#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tiny {

// Scalars lie side by side; messages and strings stay where they are while more are added.
template <typename T>
class Repeated {
 public:
  using Items = std::conditional_t<std::is_arithmetic_v<T> || std::is_enum_v<T>, std::vector<T>,
                                   std::deque<T>>;

  int size() const { return static_cast<int>(items_.size()); }
  bool empty() const { return items_.empty(); }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  const T* data() const { return items_.data(); }
  T& operator[](int i) { return items_[static_cast<size_t>(i)]; }
  const T& operator[](int i) const { return items_[static_cast<size_t>(i)]; }
  void Clear() { items_.clear(); }
  void Reserve(int count) {
    if constexpr (requires { items_.reserve(0); }) items_.reserve(static_cast<size_t>(count));
  }
  T* Add() { return &items_.emplace_back(); }
  void Add(T value) { items_.push_back(std::move(value)); }

 private:
  Items items_;
};

template <typename T>
struct IsRepeated : std::false_type {};
template <typename T>
struct IsRepeated<Repeated<T>> : std::true_type {};
template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

// Fields in order: scalars as they lie in memory, strings and repeated fields behind their size,
// what may be absent behind a byte.
class Writer {
 public:
  explicit Writer(std::string* out) : out_(out) {}

  template <typename T>
  void operator()(T& field) {
    if constexpr (IsRepeated<T>::value) {
      Raw(static_cast<uint64_t>(field.size()));
      for (auto& item : field) (*this)(item);
    } else if constexpr (IsOptional<T>::value) {
      Raw(static_cast<uint8_t>(field.has_value()));
      if (field) (*this)(*field);
    } else if constexpr (std::is_same_v<T, std::string>) {
      Raw(static_cast<uint64_t>(field.size()));
      out_->append(field);
    } else if constexpr (std::is_class_v<T>) {
      field.Visit(*this);
    } else {
      Raw(field);
    }
  }

 private:
  template <typename T>
  void Raw(const T& value) {
    out_->append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  std::string* const out_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}

  // Whether everything that was asked for was there, and nothing is left.
  bool well() const { return well_ && left_.empty(); }

  template <typename T>
  void operator()(T& field) {
    if constexpr (IsRepeated<T>::value) {
      field.Clear();
      const uint64_t count = Raw<uint64_t>();
      for (uint64_t i = 0; i < count && well_; ++i) {
        typename T::Items::value_type item = {};
        (*this)(item);
        field.Add(std::move(item));
      }
    } else if constexpr (IsOptional<T>::value) {
      field.reset();
      if (Raw<uint8_t>() != 0) (*this)(field.emplace());
    } else if constexpr (std::is_same_v<T, std::string>) {
      field = Take(Raw<uint64_t>());
    } else if constexpr (std::is_class_v<T>) {
      field.Visit(*this);
    } else {
      field = Raw<T>();
    }
  }

 private:
  std::string_view Take(uint64_t bytes) {
    well_ = well_ && bytes <= left_.size();
    if (!well_) return {};
    const std::string_view taken = left_.substr(0, bytes);
    left_.remove_prefix(bytes);
    return taken;
  }
  template <typename T>
  T Raw() {
    T value = {};
    const std::string_view bytes = Take(sizeof(T));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  std::string_view left_;
  bool well_ = true;
};

template <typename Derived>
class Message {
 public:
  static const Derived& default_instance() {
    static const Derived instance;
    return instance;
  }
  void Clear() { self() = Derived(); }

  bool SerializeToString(std::string* out) const {
    out->clear();
    const_cast<Message*>(this)->self().Visit(Writer(out));  // which changes nothing
    return true;
  }
  std::string SerializeAsString() const {
    std::string out;
    SerializeToString(&out);
    return out;
  }
  size_t ByteSizeLong() const { return SerializeAsString().size(); }
  bool ParseFromArray(const void* data, int bytes) {
    Reader reader({static_cast<const char*>(data), static_cast<size_t>(bytes)});
    self().Visit(reader);
    return reader.well();
  }

 private:
  Derived& self() { return static_cast<Derived&>(*this); }
};

}  // namespace tiny

#define TINY_SINGLE_SCALAR(type, name)          \
  type name() const { return name##_; }         \
  void set_##name(type value) { name##_ = value; } \
  void clear_##name() { name##_ = {}; }         \
  type name##_ = {};

#define TINY_OPTIONAL_SCALAR(type, name)                    \
  type name() const { return name##_.value_or(type{}); }    \
  bool has_##name() const { return name##_.has_value(); }   \
  void set_##name(type value) { name##_ = value; }          \
  void clear_##name() { name##_.reset(); }                  \
  std::optional<type> name##_;

#define TINY_SINGLE_STRING(type, name)                                \
  const type& name() const { return name##_; }                        \
  void set_##name(std::string_view value) { name##_ = value; }        \
  void set_##name(const void* data, size_t bytes) {                   \
    name##_.assign(static_cast<const char*>(data), bytes);            \
  }                                                                   \
  type* mutable_##name() { return &name##_; }                         \
  void clear_##name() { name##_.clear(); }                            \
  type name##_;

#define TINY_SINGLE_MESSAGE(type, name)                                              \
  const type& name() const { return name##_ ? *name##_ : type::default_instance(); } \
  bool has_##name() const { return name##_.has_value(); }                            \
  type* mutable_##name() { return name##_ ? &*name##_ : &name##_.emplace(); }        \
  void clear_##name() { name##_.reset(); }                                           \
  std::optional<type> name##_;

#define TINY_REPEATED_ANY(type, name)                                \
  int name##_size() const { return name##_.size(); }                 \
  const tiny::Repeated<type>& name() const { return name##_; }       \
  tiny::Repeated<type>* mutable_##name() { return &name##_; }        \
  void clear_##name() { name##_.Clear(); }                           \
  tiny::Repeated<type> name##_;

#define TINY_REPEATED_SCALAR(type, name)                     \
  type name(int i) const { return name##_[i]; }              \
  void set_##name(int i, type value) { name##_[i] = value; } \
  void add_##name(type value) { name##_.Add(value); }        \
  TINY_REPEATED_ANY(type, name)

#define TINY_REPEATED_STRING(type, name)                                  \
  const type& name(int i) const { return name##_[i]; }                    \
  type* mutable_##name(int i) { return &name##_[i]; }                     \
  void add_##name(std::string_view value) { name##_.Add(type(value)); }   \
  void add_##name(const char* data, size_t bytes) {                       \
    name##_.Add(type(data, bytes));                                       \
  }                                                                       \
  TINY_REPEATED_ANY(type, name)

#define TINY_REPEATED_MESSAGE(type, name)                \
  const type& name(int i) const { return name##_[i]; }   \
  type* mutable_##name(int i) { return &name##_[i]; }    \
  type* add_##name() { return name##_.Add(); }           \
  TINY_REPEATED_ANY(type, name)

#endif  // TESSERA_TESTS_GPU_STANDALONE_TINY_MESSAGES_H_
