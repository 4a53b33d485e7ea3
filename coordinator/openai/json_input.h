// JSON from clients: parsed within bounds, read field by field with errors that name the field.
//
// A null is an absent field; of duplicate keys the last counts; unknown fields are ignored. The first
// error stays: later reads return nothing.
//
//   TESSERA_ASSIGN_OR_RETURN(nlohmann::json body, ParseJsonObject(request.body));
//   JsonFields fields(body);
//   if (auto v = fields.Float("temperature")) options->set_temperature(*v);
//   TESSERA_RETURN_IF_ERROR(fields.status());
#ifndef TESSERA_COORDINATOR_OPENAI_JSON_INPUT_H_
#define TESSERA_COORDINATOR_OPENAI_JSON_INPUT_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator {

inline constexpr int kMaxJsonDepth = 64;
inline constexpr int kMaxJsonValues = 1'000'000;
inline constexpr int kMaxJsonMembers = 1 << 16;  // of all objects; each is a node in the tree
inline constexpr size_t kMaxListItems = 1024;  // of a list of strings or ids beside the prompt

// INVALID_ARGUMENT for what is not a JSON object in UTF-8 (and where), or passes a bound: then the
// field where it does is named. Bounds cost a glance at the text; no tree is built beyond them.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text);

// "a string", "an integer", ... for error messages.
absl::string_view JsonTypeName(const nlohmann::json& value);

class JsonFields {
 public:
  // `object` is borrowed. `prefix`: what errors put before names ("stream_options.").
  explicit JsonFields(const nlohmann::json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  std::optional<bool> Bool(const char* name);
  std::optional<std::string> String(const char* name);
  // 1.0 is an integer, 1.5 is not.
  std::optional<int32_t> Int(const char* name);
  std::optional<uint64_t> Uint64(const char* name);  // negative ones as two's complement
  std::optional<float> Float(const char* name);
  std::optional<std::vector<std::string>> Strings(const char* name);
  std::optional<std::vector<std::string>> StringOrStrings(const char* name);
  std::optional<std::vector<int32_t>> Ints(const char* name, size_t max_items = kMaxListItems);
  // The value whatever its type, or null.
  const nlohmann::json* Any(const char* name) const;
  const nlohmann::json* Object(const char* name);
  const nlohmann::json* Array(const char* name);

  // Keeps the first error: INVALID_ARGUMENT "<prefix><name> <what>".
  void Fail(absl::string_view name, absl::string_view what);
  void Adopt(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  const absl::Status& status() const { return status_; }

 private:
  void FailType(const char* name, const nlohmann::json& value, absl::string_view expected);

  const nlohmann::json& object_;
  const std::string prefix_;
  absl::Status status_;
};

// An int32 from a JSON number, nothing if it is none or does not fit.
std::optional<int32_t> JsonInt32(const nlohmann::json& value);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_JSON_INPUT_H_
