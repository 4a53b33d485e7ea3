#include "coordinator/text/jinja/value.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

absl::Status TooDeep() {
  return absl::InvalidArgumentError(
      absl::StrCat("a value nests deeper than ", kMaxValueDepth,
                   ", or holds a namespace, a loop or a function, which values cannot"));
}

// Shared values can stand in a value exponentially often.
size_t SumOf(size_t a, size_t b) {
  constexpr size_t kMost = size_t{1} << 62;
  return std::min(a + b, kMost);
}

// Keys that are equal in Python have one form; nullopt for a kind that is no key here.
std::optional<std::string> Canonical(const JinjaValue& key) {
  int64_t integer = 0;
  if (const ChatPrompt* text = key.text()) return absl::StrCat("s", text->text());
  if (JinjaInteger(key, &integer)) return absl::StrCat("i", integer);
  if (key.IsNone()) return "n";
  return std::nullopt;
}

}  // namespace

JinjaValue JinjaValue::Of(ChatPrompt text) {
  return JinjaValue(std::make_shared<const ChatPrompt>(std::move(text)));
}

JinjaValue JinjaValue::Literal(absl::string_view words) {
  return Of(std::move(ChatPrompt().Literal(words)));
}

JinjaValue JinjaValue::Content(absl::string_view words) {
  return Of(std::move(ChatPrompt().Content(words)));
}

const ChatPrompt* JinjaValue::text() const {
  const Text* text = As<Text>();
  return text == nullptr ? nullptr : text->get();
}

const JinjaList* JinjaValue::list() const {
  const List* list = As<List>();
  return list == nullptr ? nullptr : list->get();
}

const JinjaDict* JinjaValue::dict() const {
  const Dict* dict = As<Dict>();
  return dict == nullptr ? nullptr : dict->get();
}

bool JinjaValue::IsTrue() const {
  if (IsUndefined() || IsNone()) return false;
  if (const bool* value = As<bool>()) return *value;
  if (const int64_t* value = As<int64_t>()) return *value != 0;
  if (const JinjaReal* real = As<JinjaReal>()) return real->value != 0;
  if (text() != nullptr) return !text()->text().empty();
  if (list() != nullptr) return !list()->items.empty();
  if (dict() != nullptr) return !dict()->entries().empty();
  return true;
}

int JinjaValue::depth() const {
  if (list() != nullptr) return list()->depth;
  if (dict() != nullptr) return dict()->depth();
  const bool is_opaque = Is<Loop>() || Is<Namespace>() || Is<const JinjaMacro*>() ||
                         Is<JinjaFunction>() || Is<BoundMethod>();
  return is_opaque ? kMaxValueDepth : 0;
}

size_t JinjaValue::nodes() const {
  if (list() != nullptr) return list()->nodes;
  return dict() != nullptr ? dict()->nodes() : 1;
}

const char* JinjaValue::TypeName() const {
  struct Name {
    const char* operator()(const Undefined&) const { return "Undefined"; }
    const char* operator()(const None&) const { return "NoneType"; }
    const char* operator()(bool) const { return "bool"; }
    const char* operator()(int64_t) const { return "int"; }
    const char* operator()(const JinjaReal&) const { return "float"; }
    const char* operator()(const Text&) const { return "str"; }
    const char* operator()(const List& list) const { return list->is_tuple ? "tuple" : "list"; }
    const char* operator()(const Dict&) const { return "dict"; }
    const char* operator()(const Loop&) const { return "LoopContext"; }
    const char* operator()(const Namespace&) const { return "Namespace"; }
    const char* operator()(const JinjaMacro*) const { return "Macro"; }
    const char* operator()(JinjaFunction) const { return "function"; }
    const char* operator()(const BoundMethod&) const { return "method"; }
  };
  return std::visit(Name{}, data_);
}

absl::StatusOr<JinjaValue> JinjaList::Make(std::vector<JinjaValue> items, bool is_tuple) {
  int depth = 1;
  size_t nodes = 1;
  for (const JinjaValue& item : items) {
    depth = std::max(depth, item.depth() + 1);
    nodes = SumOf(nodes, item.nodes());
  }
  if (depth > kMaxValueDepth) return TooDeep();
  return JinjaValue(
      std::make_shared<const JinjaList>(JinjaList{std::move(items), is_tuple, depth, nodes}));
}

const JinjaValue* JinjaDict::Find(absl::string_view key) const {
  const auto found = index_.find(absl::StrCat("s", key));
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

const JinjaValue* JinjaDict::Find(const JinjaValue& key) const {
  const std::optional<std::string> canonical = Canonical(key);
  if (!canonical) return nullptr;
  const auto found = index_.find(*canonical);
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

absl::Status JinjaDict::Set(JinjaValue key, JinjaValue value) {
  const std::optional<std::string> canonical = Canonical(key);
  if (!canonical) {
    return absl::InvalidArgumentError(
        absl::StrCat("a dict's key is of type ", key.TypeName(), "; expected str, int or None"));
  }
  const int depth = std::max(depth_, value.depth() + 1);
  if (depth > kMaxValueDepth) return TooDeep();
  depth_ = depth;
  nodes_ = SumOf(nodes_, SumOf(value.nodes(), 1));
  const auto [found, is_new] = index_.try_emplace(*canonical, entries_.size());
  if (is_new) {
    entries_.push_back({std::move(key), std::move(value)});
  } else {
    entries_[found->second].value = std::move(value);
  }
  return absl::OkStatus();
}

const JinjaValue* JinjaNamespace::Find(absl::string_view name) const {
  for (const auto& [known, value] : attributes) {
    if (known == name) return &value;
  }
  return nullptr;
}

absl::Status JinjaNamespace::Set(absl::string_view name, JinjaValue value) {
  if (absl::StartsWith(name, "_")) {  // as transformers has it
    return absl::InvalidArgumentError("a namespace's attribute may not begin with '_'");
  }
  if (value.depth() >= kMaxValueDepth) return TooDeep();
  for (auto& [known, attribute] : attributes) {
    if (known != name) continue;
    attribute = std::move(value);
    return absl::OkStatus();
  }
  attributes.emplace_back(std::string(name), std::move(value));
  return absl::OkStatus();
}

bool JinjaInteger(const JinjaValue& value, int64_t* integer) {
  if (const bool* flag = value.As<bool>()) {
    *integer = *flag ? 1 : 0;
    return true;
  }
  const int64_t* number = value.As<int64_t>();
  if (number != nullptr) *integer = *number;
  return number != nullptr;
}

bool JinjaNumber(const JinjaValue& value, double* number) {
  int64_t integer = 0;
  if (JinjaInteger(value, &integer)) {
    *number = static_cast<double>(integer);
    return true;
  }
  const JinjaReal* real = value.As<JinjaReal>();
  if (real != nullptr) *number = real->value;
  return real != nullptr;
}

bool JinjaEqual(const JinjaValue& a, const JinjaValue& b) {
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (JinjaInteger(a, &i) && JinjaInteger(b, &j)) return i == j;
  if (JinjaNumber(a, &x) && JinjaNumber(b, &y)) return x == y;
  if (a.text() != nullptr && b.text() != nullptr) return a.text()->text() == b.text()->text();
  if (a.list() != nullptr && b.list() != nullptr) {
    const auto &left = a.list()->items, &right = b.list()->items;
    return a.list()->is_tuple == b.list()->is_tuple &&
           std::equal(left.begin(), left.end(), right.begin(), right.end(), JinjaEqual);
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    const auto& entries = a.dict()->entries();
    return entries.size() == b.dict()->entries().size() &&
           std::all_of(entries.begin(), entries.end(), [&](const JinjaDict::Entry& entry) {
             const JinjaValue* other = b.dict()->Find(entry.key);
             return other != nullptr && JinjaEqual(entry.value, *other);
           });
  }
  return (a.IsNone() && b.IsNone()) || (a.IsUndefined() && b.IsUndefined());
}

absl::StatusOr<int> JinjaCompare(const JinjaValue& a, const JinjaValue& b) {
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (JinjaInteger(a, &i) && JinjaInteger(b, &j)) return i < j ? -1 : i > j;
  if (JinjaNumber(a, &x) && JinjaNumber(b, &y)) return x < y ? -1 : x > y;
  // UTF-8 sorts as its code points do.
  if (a.text() != nullptr && b.text() != nullptr) {
    const int order = a.text()->text().compare(b.text()->text());
    return order < 0 ? -1 : order > 0;
  }
  if (a.list() != nullptr && b.list() != nullptr && a.list()->is_tuple == b.list()->is_tuple) {
    const auto &left = a.list()->items, &right = b.list()->items;
    for (size_t at = 0; at < std::min(left.size(), right.size()); ++at) {
      if (JinjaEqual(left[at], right[at])) continue;
      return JinjaCompare(left[at], right[at]);
    }
    return left.size() < right.size() ? -1 : left.size() > right.size();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", a.TypeName(), "' and '", b.TypeName(), "' have no order"));
}

}  // namespace tessera::coordinator
