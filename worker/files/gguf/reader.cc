#include "worker/files/gguf/reader.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/status_macros.h"
#include "worker/files/checked_math.h"
#include "worker/files/file_errors.h"

namespace tessera::worker {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;   // the format's own limit
constexpr uint64_t kMaxNameBytes = 64;     // the format's own limit
constexpr uint64_t kMaxPairs = 100'000;
constexpr uint64_t kMaxTensors = 200'000;
constexpr uint32_t kMaxDims = 4;
constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kMinPairBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = int64_t{1} << 20;

// ggml's numbers for element types. UNSPECIFIED: known by name only.
struct GgmlType {
  uint32_t number;
  const char* name;
  v1::DataType type;
};
constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", v1::DATA_TYPE_F32},
    {1, "F16", v1::DATA_TYPE_F16},
    {2, "Q4_0", v1::DATA_TYPE_Q4_0},
    {3, "Q4_1", v1::DATA_TYPE_Q4_1},
    {6, "Q5_0", v1::DATA_TYPE_Q5_0},
    {7, "Q5_1", v1::DATA_TYPE_Q5_1},
    {8, "Q8_0", v1::DATA_TYPE_Q8_0},
    {12, "Q4_K", v1::DATA_TYPE_Q4_K},
    {13, "Q5_K", v1::DATA_TYPE_Q5_K},
    {14, "Q6_K", v1::DATA_TYPE_Q6_K},
    {30, "BF16", v1::DATA_TYPE_BF16},
    {9, "Q8_1", v1::DATA_TYPE_UNSPECIFIED},
    {10, "Q2_K", v1::DATA_TYPE_UNSPECIFIED},
    {11, "Q3_K", v1::DATA_TYPE_UNSPECIFIED},
    {15, "Q8_K", v1::DATA_TYPE_UNSPECIFIED},
    {16, "IQ2_XXS", v1::DATA_TYPE_UNSPECIFIED},
    {17, "IQ2_XS", v1::DATA_TYPE_UNSPECIFIED},
    {18, "IQ3_XXS", v1::DATA_TYPE_UNSPECIFIED},
    {19, "IQ1_S", v1::DATA_TYPE_UNSPECIFIED},
    {20, "IQ4_NL", v1::DATA_TYPE_UNSPECIFIED},
    {21, "IQ3_S", v1::DATA_TYPE_UNSPECIFIED},
    {22, "IQ2_S", v1::DATA_TYPE_UNSPECIFIED},
    {23, "IQ4_XS", v1::DATA_TYPE_UNSPECIFIED},
    {24, "I8", v1::DATA_TYPE_UNSPECIFIED},
    {25, "I16", v1::DATA_TYPE_UNSPECIFIED},
    {26, "I32", v1::DATA_TYPE_UNSPECIFIED},
    {27, "I64", v1::DATA_TYPE_UNSPECIFIED},
    {28, "F64", v1::DATA_TYPE_UNSPECIFIED},
    {29, "IQ1_M", v1::DATA_TYPE_UNSPECIFIED},
    {34, "TQ1_0", v1::DATA_TYPE_UNSPECIFIED},
    {35, "TQ2_0", v1::DATA_TYPE_UNSPECIFIED},
    {39, "MXFP4", v1::DATA_TYPE_UNSPECIFIED},
};

const GgmlType* FindGgmlType(uint32_t number) {
  for (const GgmlType& row : kGgmlTypes) {
    if (row.number == number) return &row;
  }
  return nullptr;
}

std::string SupportedTypes() {
  std::vector<absl::string_view> names;
  for (const GgmlType& row : kGgmlTypes) {
    if (row.type != v1::DATA_TYPE_UNSPECIFIED) names.push_back(row.name);
  }
  return absl::StrJoin(names, ", ");
}

// Reads forward through the header; every step is checked against the end of the file.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return file_.size() - position_; }
  const std::string& path() const { return file_.path(); }

  // what: for the message of a file that ends too early.
  absl::StatusOr<absl::Span<const uint8_t>> Take(uint64_t bytes, absl::string_view what) {
    if (bytes > remaining()) {
      return FileError(path(), absl::StrCat(what, ": expected ", bytes, " bytes at offset ",
                                            position_, ", the file ends after ", remaining()));
    }
    const auto taken = file_.all().subspan(position_, bytes);
    position_ += bytes;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Number(absl::string_view what) {
    TESSERA_ASSIGN_OR_RETURN(const auto bytes, Take(sizeof(T), what));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }

  absl::StatusOr<absl::string_view> String(uint64_t max_bytes, absl::string_view what) {
    TESSERA_ASSIGN_OR_RETURN(const uint64_t length, Number<uint64_t>(what));
    if (length > max_bytes) {
      return FileError(path(), absl::StrCat(what, ": expected at most ", max_bytes,
                                            " bytes, the file says ", length));
    }
    TESSERA_ASSIGN_OR_RETURN(const auto bytes, Take(length, what));
    return absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  absl::StatusOr<GgufType> Type(absl::string_view what) {
    TESSERA_ASSIGN_OR_RETURN(const uint32_t number, Number<uint32_t>(what));
    if (number >= kNumGgufTypes) {
      return FileError(path(), absl::StrCat(what, ": expected a value type 0 .. ",
                                            kNumGgufTypes - 1, ", the file says ", number));
    }
    return static_cast<GgufType>(number);
  }

 private:
  const MappedFile& file_;
  uint64_t position_ = 0;
};

absl::Status SkipElements(Cursor& cursor, GgufType type, uint64_t count, int depth,
                          absl::string_view what);

// The value's bytes, walked to the end so that later readers need no checks.
absl::StatusOr<GgufValue> ReadValue(Cursor& cursor, GgufType type, int depth,
                                    absl::string_view what) {
  GgufValue value;
  value.type = type;
  if (type == GgufType::kArray) {
    TESSERA_ASSIGN_OR_RETURN(value.element_type, cursor.Type(what));
    TESSERA_ASSIGN_OR_RETURN(value.count, cursor.Number<uint64_t>(what));
    const uint64_t begin = cursor.position();
    TESSERA_ASSIGN_OR_RETURN(const auto first, cursor.Take(0, what));
    TESSERA_RETURN_IF_ERROR(
        SkipElements(cursor, value.element_type, value.count, depth + 1, what));
    value.data = first.data();
    value.bytes = cursor.position() - begin;
    return value;
  }
  if (type == GgufType::kString) {
    TESSERA_ASSIGN_OR_RETURN(const auto text, cursor.String(UINT64_MAX, what));
    value.data = reinterpret_cast<const uint8_t*>(text.data());
    value.bytes = text.size();
    return value;
  }
  TESSERA_ASSIGN_OR_RETURN(const auto bytes,
                           cursor.Take(static_cast<uint64_t>(GgufTypeBytes(type)), what));
  if (type == GgufType::kBool && bytes[0] > 1) {
    return FileError(cursor.path(), absl::StrCat(what, ": expected a bool of 0 or 1, file has ",
                                                 static_cast<int>(bytes[0])));
  }
  value.data = bytes.data();
  value.bytes = bytes.size();
  return value;
}

absl::Status SkipElements(Cursor& cursor, GgufType type, uint64_t count, int depth,
                          absl::string_view what) {
  if (depth > kMaxArrayDepth) {
    return FileError(cursor.path(), absl::StrCat(what, ": arrays nested deeper than ",
                                                 kMaxArrayDepth));
  }
  // Strings take at least their length's 8 bytes, arrays 12.
  const int fixed = GgufTypeBytes(type);
  const uint64_t least = fixed > 0 ? static_cast<uint64_t>(fixed)
                                   : (type == GgufType::kString ? 8 : 12);
  if (count > cursor.remaining() / least) {
    return FileError(cursor.path(), absl::StrCat(what, ": expected ", count, " elements of ",
                                                 GgufTypeName(type), ", the file ends after ",
                                                 cursor.remaining(), " bytes"));
  }
  if (fixed > 0) return cursor.Take(count * least, what).status();
  for (uint64_t i = 0; i < count; ++i) {
    TESSERA_RETURN_IF_ERROR(ReadValue(cursor, type, depth, what).status());
  }
  return absl::OkStatus();
}

absl::Status ReadPairs(Cursor& cursor, uint64_t count, GgufMetadata& metadata) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string number = absl::StrCat("metadata key ", i);
    TESSERA_ASSIGN_OR_RETURN(const auto key, cursor.String(kMaxKeyBytes, number));
    if (key.empty()) return FileError(cursor.path(), absl::StrCat(number, " is empty"));
    const std::string shown = Printable(key);
    TESSERA_ASSIGN_OR_RETURN(const GgufType type, cursor.Type(shown));
    TESSERA_ASSIGN_OR_RETURN(const GgufValue value, ReadValue(cursor, type, 0, shown));
    if (!metadata.Add(std::string(key), value)) {
      return FileError(cursor.path(), absl::StrCat(shown, ": key appears twice"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredTensor> ReadTensorEntry(Cursor& cursor, uint64_t index) {
  const std::string number = absl::StrCat("tensor ", index);
  TESSERA_ASSIGN_OR_RETURN(const auto name, cursor.String(kMaxNameBytes, number));
  if (name.empty()) return FileError(cursor.path(), absl::StrCat(number, ": its name is empty"));
  const std::string shown = Printable(name);
  StoredTensor tensor;
  tensor.name = std::string(name);
  TESSERA_ASSIGN_OR_RETURN(const uint32_t dims, cursor.Number<uint32_t>(shown));
  if (dims < 1 || dims > kMaxDims) {
    return FileError(cursor.path(), absl::StrCat(shown, ": expected 1 .. ", kMaxDims,
                                                 " dimensions, file has ", dims));
  }
  for (uint32_t i = 0; i < dims; ++i) {
    TESSERA_ASSIGN_OR_RETURN(const uint64_t size, cursor.Number<uint64_t>(shown));
    if (size < 1 || size > static_cast<uint64_t>(INT64_MAX)) {
      return FileError(cursor.path(), absl::StrCat(shown, ": dimension ", i,
                                                   ": expected at least 1, file has ", size));
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));  // innermost first
  }
  TESSERA_ASSIGN_OR_RETURN(const uint32_t type_number, cursor.Number<uint32_t>(shown));
  TESSERA_ASSIGN_OR_RETURN(tensor.offset, cursor.Number<uint64_t>(shown));
  const GgmlType* type = FindGgmlType(type_number);
  if (type == nullptr) {
    return FileError(cursor.path(), absl::StrCat(shown, ": expected a type among ",
                                                 SupportedTypes(), ", file has number ",
                                                 type_number));
  }
  if (type->type == v1::DATA_TYPE_UNSPECIFIED) {
    return UnsupportedError(cursor.path(), absl::StrCat(shown, ": type ", type->name,
                                                        "; supported: ", SupportedTypes()));
  }
  tensor.type = type->type;
  tensor.type_name = type->name;
  const StorageBlock block = StorageBlockOf(tensor.type);
  if (tensor.shape.back() % block.elements != 0) {
    return FileError(cursor.path(), absl::StrCat(shown, ": expected rows in multiples of ",
                                                 block.elements, " for ", type->name,
                                                 ", file has ", ShapeText(tensor.shape)));
  }
  const auto bytes = StoredBytes(tensor.shape, block);
  if (!bytes) {
    return FileError(cursor.path(), absl::StrCat(shown, ": ", ShapeText(tensor.shape),
                                                 " overflows the size of any file"));
  }
  tensor.bytes = *bytes;
  return tensor;
}

absl::StatusOr<uint64_t> ReadAlignment(const GgufMetadata& metadata) {
  const std::string key = "general.alignment";
  const GgufValue* value = metadata.Find(key);
  if (value != nullptr && value->type != GgufType::kUint32) {
    return FileError(metadata.path(), absl::StrCat(key, ": expected uint32, file has ",
                                                   GgufTypeName(value->type)));
  }
  TESSERA_ASSIGN_OR_RETURN(const int64_t alignment,
                           metadata.IntOr(key, 1, kMaxAlignment, kDefaultAlignment));
  if ((alignment & (alignment - 1)) != 0) {
    return FileError(metadata.path(),
                     absl::StrCat(key, ": expected a power of two, file has ", alignment));
  }
  return static_cast<uint64_t>(alignment);
}

// Turns offsets within the data into offsets within the file, checked to lie in it.
absl::Status PlaceTensors(const MappedFile& file, uint64_t header_end, uint64_t alignment,
                          std::vector<StoredTensor>& tensors) {
  const uint64_t data_begin = (header_end + alignment - 1) / alignment * alignment;
  for (StoredTensor& tensor : tensors) {
    const std::string shown = Printable(tensor.name);
    if (tensor.offset % alignment != 0) {
      return FileError(file.path(), absl::StrCat(shown, ": expected an offset in multiples of ",
                                                 alignment, ", file has ", tensor.offset));
    }
    const auto begin = CheckedAdd(data_begin, tensor.offset);
    const auto end = begin ? CheckedAdd(*begin, tensor.bytes) : std::nullopt;
    if (!end || *end > file.size()) {
      return FileError(file.path(),
                       absl::StrCat(shown, ": expected ", tensor.bytes, " bytes at ",
                                    tensor.offset, " of the data, the file has ",
                                    file.size() - std::min(file.size(), data_begin),
                                    " bytes of data (truncated?)"));
    }
    tensor.offset = *begin;
    tensor.file = &file;
  }
  return absl::OkStatus();
}

absl::Status CheckOverlap(const std::string& path, const std::vector<StoredTensor>& tensors) {
  std::vector<const StoredTensor*> sorted;
  sorted.reserve(tensors.size());
  for (const StoredTensor& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return a->offset < b->offset;
  });
  for (size_t i = 1; i < sorted.size(); ++i) {
    const StoredTensor& before = *sorted[i - 1];
    if (before.offset + before.bytes > sorted[i]->offset) {
      return FileError(path, absl::StrCat(Printable(sorted[i]->name), ": overlaps ",
                                          Printable(before.name)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ReadCount(Cursor& cursor, uint64_t max, uint64_t least_bytes,
                                   absl::string_view what) {
  TESSERA_ASSIGN_OR_RETURN(const uint64_t count, cursor.Number<uint64_t>(what));
  if (count > std::min(max, cursor.remaining() / least_bytes)) {
    return FileError(cursor.path(),
                     absl::StrCat(what, ": expected at most ",
                                  std::min(max, cursor.remaining() / least_bytes),
                                  " in a file of this size, the file says ", count));
  }
  return count;
}

absl::Status CheckMagic(Cursor& cursor) {
  TESSERA_ASSIGN_OR_RETURN(const auto magic, cursor.Take(4, "magic"));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    return FileError(cursor.path(),
                     absl::StrCat("expected the file to start with GGUF, found \"",
                                  Printable(absl::string_view(
                                      reinterpret_cast<const char*>(magic.data()), 4)),
                                  "\""));
  }
  TESSERA_ASSIGN_OR_RETURN(const uint32_t version, cursor.Number<uint32_t>("version"));
  if (version == 2 || version == 3) return absl::OkStatus();
  const bool big_endian = version != 0 && (version & 0xffffff) == 0;
  return FileError(cursor.path(), absl::StrCat("GGUF version: expected 2 or 3, file has ", version,
                                               big_endian ? " (a big-endian file?)" : ""));
}

}  // namespace

absl::StatusOr<GgufFile> ReadGgufFile(const std::string& path) {
  GgufFile result;
  TESSERA_ASSIGN_OR_RETURN(result.file, MappedFile::Open(path));
  Cursor cursor(*result.file);
  TESSERA_RETURN_IF_ERROR(CheckMagic(cursor));
  TESSERA_ASSIGN_OR_RETURN(const uint64_t num_tensors,
                           ReadCount(cursor, kMaxTensors, kMinTensorBytes, "tensor count"));
  TESSERA_ASSIGN_OR_RETURN(const uint64_t num_pairs,
                           ReadCount(cursor, kMaxPairs, kMinPairBytes, "metadata count"));
  result.metadata = GgufMetadata(path);
  TESSERA_RETURN_IF_ERROR(ReadPairs(cursor, num_pairs, result.metadata));
  TESSERA_ASSIGN_OR_RETURN(const uint64_t alignment, ReadAlignment(result.metadata));

  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < num_tensors; ++i) {
    TESSERA_ASSIGN_OR_RETURN(StoredTensor tensor, ReadTensorEntry(cursor, i));
    if (!names.insert(tensor.name).second) {
      return FileError(path, absl::StrCat(Printable(tensor.name), ": tensor appears twice"));
    }
    result.tensors.push_back(std::move(tensor));
  }
  TESSERA_RETURN_IF_ERROR(
      PlaceTensors(*result.file, cursor.position(), alignment, result.tensors));
  TESSERA_RETURN_IF_ERROR(CheckOverlap(path, result.tensors));
  return result;
}

}  // namespace tessera::worker
