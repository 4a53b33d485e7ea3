// JSON that nobody vouches for: nesting, size and duplicate keys are checked before a tree is built.
//
//   TESSERA_ASSIGN_OR_RETURN(Json config, ReadJsonFile(path, kMaxConfigBytes));
//   ConfigReader read(path, config);
//   TESSERA_ASSIGN_OR_RETURN(int64_t layers, read.Int("num_hidden_layers", 1, 4096));
#ifndef TESSERA_WORKER_FILES_JSON_H_
#define TESSERA_WORKER_FILES_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::worker {

using Json = nlohmann::json;

inline constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;
inline constexpr uint64_t kMaxTokenizerBytes = uint64_t{256} << 20;
inline constexpr int kMaxJsonDepth = 64;

// `where` begins every error: the file's path, and what part of it. Refused: anything but one JSON
// object, invalid UTF-8, nesting beyond kMaxJsonDepth, a key twice in one object.
absl::StatusOr<Json> ParseJsonObject(absl::string_view where, absl::string_view text);

// The object in a file of at most max_bytes.
absl::StatusOr<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes);

// The member of that name, or null when it is absent or null itself. `object` may be anything.
const Json* FindMember(const Json& object, const char* key);

// A JSON value in one line of a message.
std::string PrintableJson(const Json& value);

// Typed access to one object's members; errors name file, key, expected and actual. Borrows both.
// "Absent" includes null, as transformers treats it.
class ConfigReader {
 public:
  ConfigReader(std::string where, const Json& object) : where_(std::move(where)), object_(object) {}

  // nullopt when absent; INVALID_ARGUMENT for another type or a number outside [min, max].
  absl::StatusOr<std::optional<int64_t>> OptionalInt(const char* key, int64_t min,
                                                     int64_t max) const;
  absl::StatusOr<std::optional<double>> OptionalNumber(const char* key, double min,
                                                       double max) const;
  absl::StatusOr<std::optional<bool>> OptionalBool(const char* key) const;
  absl::StatusOr<std::optional<std::string>> OptionalString(const char* key) const;

  // The same, with absence an error.
  absl::StatusOr<int64_t> Int(const char* key, int64_t min, int64_t max) const;
  // The same, with a value for absence.
  absl::StatusOr<int64_t> IntOr(const char* key, int64_t min, int64_t max, int64_t absent) const;
  absl::StatusOr<double> NumberOr(const char* key, double min, double max, double absent) const;
  absl::StatusOr<bool> BoolOr(const char* key, bool absent) const;

  bool HasKey(const char* key) const { return object_.contains(key); }
  const Json* Member(const char* key) const { return FindMember(object_, key); }
  const std::string& where() const { return where_; }

 private:
  absl::Status WrongType(const char* key, absl::string_view expected) const;

  const std::string where_;
  const Json& object_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_JSON_H_
