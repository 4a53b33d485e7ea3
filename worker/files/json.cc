#include "worker/files/json.h"

#include <unordered_set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/mapped_file.h"

namespace tessera::worker {
namespace {

// Reads the text once without building anything, to refuse what the tree must not meet.
class Inspector : public nlohmann::json_sax<Json> {
 public:
  const std::string& complaint() const { return complaint_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    complaint_ = absl::StrCat("key \"", Printable(name), "\" appears twice in one object");
    return false;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    complaint_ = absl::StrCat("expected JSON, found an error at byte ", position);
    return false;
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxJsonDepth) return true;
    complaint_ = absl::StrCat("nested deeper than ", kMaxJsonDepth, " levels");
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::unordered_set<std::string>> keys_;  // one set per open object or array
  std::string complaint_;
};

}  // namespace

absl::StatusOr<Json> ParseJsonObject(absl::string_view where, absl::string_view text) {
  Inspector inspector;
  if (!Json::sax_parse(text.begin(), text.end(), &inspector)) {
    return FileError(where, inspector.complaint());
  }
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    return FileError(where, absl::StrCat("expected a JSON object, found ", value.type_name()));
  }
  return value;
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes) {
  TESSERA_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  if (file->size() > max_bytes) {
    return FileError(path, absl::StrCat("expected at most ", max_bytes, " bytes, the file has ",
                                        file->size()));
  }
  const auto bytes = file->all();
  return ParseJsonObject(
      path, absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

const Json* FindMember(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string PrintableJson(const Json& value) {
  return Printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

absl::Status ConfigReader::WrongType(const char* key, absl::string_view expected) const {
  const Json* value = Member(key);
  return FileError(where_, absl::StrCat(key, ": expected ", expected, ", found ",
                                        value ? PrintableJson(*value) : "nothing"));
}

absl::StatusOr<std::optional<int64_t>> ConfigReader::OptionalInt(const char* key, int64_t min,
                                                                 int64_t max) const {
  const Json* value = Member(key);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_unsigned()
                        ? value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                        : value->is_number_integer();
  if (!fits || value->get<int64_t>() < min || value->get<int64_t>() > max) {
    return WrongType(key, absl::StrCat("a whole number from ", min, " to ", max));
  }
  return value->get<int64_t>();
}

absl::StatusOr<std::optional<double>> ConfigReader::OptionalNumber(const char* key, double min,
                                                                   double max) const {
  const Json* value = Member(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->get<double>() >= min && value->get<double>() <= max)) {
    return WrongType(key, absl::StrCat("a number from ", min, " to ", max));
  }
  return value->get<double>();
}

absl::StatusOr<std::optional<bool>> ConfigReader::OptionalBool(const char* key) const {
  const Json* value = Member(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return WrongType(key, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::optional<std::string>> ConfigReader::OptionalString(const char* key) const {
  const Json* value = Member(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return WrongType(key, "a string");
  return value->get<std::string>();
}

absl::StatusOr<int64_t> ConfigReader::Int(const char* key, int64_t min, int64_t max) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalInt(key, min, max));
  if (!value) return WrongType(key, absl::StrCat("a whole number from ", min, " to ", max));
  return *value;
}

absl::StatusOr<int64_t> ConfigReader::IntOr(const char* key, int64_t min, int64_t max,
                                            int64_t absent) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalInt(key, min, max));
  return value.value_or(absent);
}

absl::StatusOr<double> ConfigReader::NumberOr(const char* key, double min, double max,
                                              double absent) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalNumber(key, min, max));
  return value.value_or(absent);
}

absl::StatusOr<bool> ConfigReader::BoolOr(const char* key, bool absent) const {
  TESSERA_ASSIGN_OR_RETURN(const auto value, OptionalBool(key));
  return value.value_or(absent);
}

}  // namespace tessera::worker
