// A value while a chat template is evaluated. What people wrote keeps its mark: a string is a
// ChatPrompt, and everything made from it carries the marks along.
//
// Values are immutable and shared (a namespace's attributes alone change), so copies are cheap.
// Lists and dicts know how deep they nest and are refused past kMaxValueDepth, so that no walk over
// a value, its destructor included, runs out of stack; and they know how many values a walk meets,
// which a budget can be charged with.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_VALUE_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/chat_prompt.h"

namespace tessera::coordinator {

inline constexpr int kMaxValueDepth = 64;

struct JinjaMacro;  // jinja_syntax.h
class JinjaDict;
struct JinjaList;
struct JinjaLoop;
struct JinjaNamespace;

// A number with a fraction, or one that a 64-bit integer cannot hold; then `spelling` is the
// original's.
struct JinjaReal {
  double value = 0;
  std::shared_ptr<const std::string> spelling = nullptr;
};

enum class JinjaFunction { kRange, kNamespace, kRaiseException, kStrftimeNow, kDict };

class JinjaValue {
 public:
  // `name` is what was looked up; it lies in the syntax tree, which outlives every value.
  struct Undefined {
    absl::string_view name;
  };
  struct None {};
  struct BoundMethod {};  // a method that is named and not called: only that it is there matters

  using Text = std::shared_ptr<const ChatPrompt>;
  using List = std::shared_ptr<const JinjaList>;
  using Dict = std::shared_ptr<const JinjaDict>;
  using Loop = std::shared_ptr<const JinjaLoop>;
  using Namespace = std::shared_ptr<JinjaNamespace>;
  using Data = std::variant<Undefined, None, bool, int64_t, JinjaReal, Text, List, Dict, Loop,
                            Namespace, const JinjaMacro*, JinjaFunction, BoundMethod>;

  JinjaValue() : data_(Undefined{}) {}
  template <typename T>
  explicit JinjaValue(T data) : data_(std::move(data)) {}

  static JinjaValue Literal(absl::string_view words);
  static JinjaValue Content(absl::string_view words);  // written by people
  static JinjaValue Of(ChatPrompt text);

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data_);
  }
  template <typename T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }

  bool IsUndefined() const { return Is<Undefined>(); }
  bool IsNone() const { return Is<None>(); }
  // The string; null for another kind.
  const ChatPrompt* text() const;
  const JinjaList* list() const;  // a list or a tuple
  const JinjaDict* dict() const;

  bool IsTrue() const;  // Python's bool()
  // 0 for a scalar, 1 + that of the deepest item for a list or dict. A namespace, loop, macro or
  // function is past kMaxValueDepth: none may stand in another value, which rules out cycles.
  int depth() const;
  // Values that a walk over this one meets, one that stands there twice counted twice.
  size_t nodes() const;
  const char* TypeName() const;  // Python's: "str", "NoneType", ...

 private:
  Data data_;
};

struct JinjaList {
  std::vector<JinjaValue> items;
  bool is_tuple = false;
  int depth = 1;
  size_t nodes = 1;

  // INVALID_ARGUMENT where the items nest too deep.
  static absl::StatusOr<JinjaValue> Make(std::vector<JinjaValue> items, bool is_tuple = false);
};

// In the order of insertion, as Python's.
class JinjaDict {
 public:
  struct Entry {
    JinjaValue key;
    JinjaValue value;
  };

  const std::vector<Entry>& entries() const { return entries_; }
  int depth() const { return depth_; }
  size_t nodes() const { return nodes_; }
  // Null where it is not.
  const JinjaValue* Find(absl::string_view key) const;
  const JinjaValue* Find(const JinjaValue& key) const;

  // Replaces the value of a key that is there. INVALID_ARGUMENT for a key of a kind that cannot be
  // one, and where the value nests too deep.
  absl::Status Set(JinjaValue key, JinjaValue value);

 private:
  std::vector<Entry> entries_;
  absl::flat_hash_map<std::string, size_t> index_;  // by Canonical(key)
  int depth_ = 1;
  size_t nodes_ = 1;  // those of replaced values too
};

struct JinjaNamespace {
  std::vector<std::pair<std::string, JinjaValue>> attributes;

  const JinjaValue* Find(absl::string_view name) const;
  absl::Status Set(absl::string_view name, JinjaValue value);
};

// The variable `loop`.
struct JinjaLoop {
  std::shared_ptr<const JinjaList> items;
  size_t index0 = 0;
};

// Both walk no more than a.nodes() or b.nodes() values, whichever is less.
bool JinjaEqual(const JinjaValue& a, const JinjaValue& b);
// < 0, 0, > 0. INVALID_ARGUMENT for kinds that have no order.
absl::StatusOr<int> JinjaCompare(const JinjaValue& a, const JinjaValue& b);

// As double, for bool, int and float.
bool JinjaNumber(const JinjaValue& value, double* number);
// For bool and int.
bool JinjaInteger(const JinjaValue& value, int64_t* integer);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_VALUE_H_
