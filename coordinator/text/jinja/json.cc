#include "coordinator/text/jinja/json.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// Builds the value bottom up; nesting is bounded as it is read.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  absl::Status status = absl::OkStatus();

  JinjaValue Take() { return std::move(result_); }

  bool null() override { return Add(JinjaValue(JinjaValue::None{})); }
  bool boolean(bool value) override { return Add(JinjaValue(value)); }
  bool number_integer(number_integer_t value) override { return Add(JinjaValue(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Add(JinjaValue(static_cast<int64_t>(value)));
    }
    return AddSpelled(static_cast<double>(value), std::to_string(value));
  }
  bool number_float(number_float_t value, const string_t& spelling) override {
    const bool is_integer = spelling.find_first_of(".eE") == spelling.npos;
    return is_integer ? AddSpelled(value, spelling) : Add(JinjaValue(JinjaReal{value}));
  }
  bool string(string_t& value) override { return Add(JinjaValue::Content(value)); }
  bool binary(binary_t&) override { return Fail("unexpected binary value"); }

  bool start_object(std::size_t) override { return Open(/*is_dict=*/true); }
  bool key(string_t& name) override {
    open_.back().key = JinjaValue::Content(name);
    return true;
  }
  bool end_object() override {
    auto dict = std::make_shared<const JinjaDict>(std::move(open_.back().dict));
    open_.pop_back();
    return Add(JinjaValue(JinjaValue::Dict(std::move(dict))));
  }
  bool start_array(std::size_t) override { return Open(/*is_dict=*/false); }
  bool end_array() override {
    absl::StatusOr<JinjaValue> list = JinjaList::Make(std::move(open_.back().items));
    open_.pop_back();
    return list.ok() ? Add(*std::move(list)) : Fail(list.status().message());
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    return Fail(absl::StrCat("is no JSON: it breaks at byte ", position));
  }

 private:
  struct Container {
    bool is_dict;
    JinjaValue key;
    JinjaDict dict;
    std::vector<JinjaValue> items;
  };

  bool Fail(absl::string_view what) {
    if (status.ok()) status = absl::InvalidArgumentError(what);
    return false;
  }

  bool Open(bool is_dict) {
    // One level less than values may have: what is read here is put into a list.
    if (static_cast<int>(open_.size()) >= kMaxValueDepth - 4) {
      return Fail(absl::StrCat("nests deeper than ", kMaxValueDepth - 4));
    }
    open_.push_back({is_dict, {}, {}, {}});
    return true;
  }

  bool AddSpelled(double value, const std::string& spelling) {
    return Add(JinjaValue(JinjaReal{value, std::make_shared<const std::string>(spelling)}));
  }

  bool Add(JinjaValue value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().is_dict) {
      const absl::Status set = open_.back().dict.Set(open_.back().key, std::move(value));
      return set.ok() || Fail(set.message());
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::vector<Container> open_;
  JinjaValue result_;
};

}  // namespace

absl::StatusOr<JinjaValue> ParseJsonContent(absl::string_view json) {
  Builder builder;
  nlohmann::json::sax_parse(json.begin(), json.end(), &builder);
  TESSERA_RETURN_IF_ERROR(builder.status);
  return builder.Take();
}

}  // namespace tessera::coordinator
