// Metadata values of a GGUF file, typed and borrowed from the mapped file.
//
//   TESSERA_ASSIGN_OR_RETURN(int64_t layers, metadata.Int("llama.block_count", 1, 4096));
#ifndef TESSERA_WORKER_FILES_GGUF_VALUE_H_
#define TESSERA_WORKER_FILES_GGUF_VALUE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::worker {

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};
inline constexpr uint32_t kNumGgufTypes = 13;

// Bytes of a number or bool; 0 for strings and arrays.
int GgufTypeBytes(GgufType type);
const char* GgufTypeName(GgufType type);

// A value whose bytes were checked to lie in the file.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element_type = GgufType::kUint8;  // of an array
  uint64_t count = 1;                        // of an array
  const uint8_t* data = nullptr;             // first byte of the number, characters, or elements
  uint64_t bytes = 0;
};

class GgufMetadata {
 public:
  explicit GgufMetadata(std::string path = "") : path_(std::move(path)) {}

  // False when the key is there already.
  bool Add(std::string key, const GgufValue& value) {
    return values_.emplace(std::move(key), value).second;
  }

  const std::string& path() const { return path_; }
  const GgufValue* Find(absl::string_view key) const;
  bool Has(absl::string_view key) const { return Find(key) != nullptr; }

  // nullopt when the key is absent. INVALID_ARGUMENT naming file, key, expected and actual when the
  // type is wrong or a number lies outside [min, max]. Any integer type serves as an integer, any
  // number type as a number. An array of equal integers serves as that integer (per-layer values).
  absl::StatusOr<std::optional<int64_t>> OptionalInt(const std::string& key, int64_t min,
                                                     int64_t max) const;
  absl::StatusOr<std::optional<double>> OptionalNumber(const std::string& key, double min,
                                                       double max) const;
  absl::StatusOr<std::optional<bool>> OptionalBool(const std::string& key) const;
  absl::StatusOr<std::optional<absl::string_view>> OptionalString(const std::string& key) const;

  // The same with absence an error, or with a value for it.
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t min, int64_t max) const;
  absl::StatusOr<int64_t> IntOr(const std::string& key, int64_t min, int64_t max,
                                int64_t absent) const;
  absl::StatusOr<double> NumberOr(const std::string& key, double min, double max,
                                  double absent) const;

  // Empty when the key is absent; the array's element type must match.
  absl::StatusOr<std::vector<absl::string_view>> Strings(const std::string& key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(const std::string& key) const;
  absl::StatusOr<std::vector<float>> Floats(const std::string& key) const;

 private:
  absl::Status WrongType(const std::string& key, absl::string_view expected) const;

  std::string path_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_VALUE_H_
