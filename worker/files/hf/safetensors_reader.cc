#include "worker/files/hf/safetensors_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"
#include "worker/files/checked_math.h"
#include "worker/files/file_errors.h"
#include "worker/files/json.h"

namespace tessera::worker {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxTensorDims = 8;
constexpr size_t kMaxShards = 10'000;
constexpr char kWholeModel[] = "model.safetensors";

struct SafetensorsType {
  const char* name;
  v1::DataType type;  // UNSPECIFIED: measured, not computed with
  int bytes;
};
constexpr SafetensorsType kTypes[] = {
    {"F32", v1::DATA_TYPE_F32, 4},
    {"F16", v1::DATA_TYPE_F16, 2},
    {"BF16", v1::DATA_TYPE_BF16, 2},
    {"F64", v1::DATA_TYPE_UNSPECIFIED, 8},
    {"I64", v1::DATA_TYPE_UNSPECIFIED, 8},
    {"U64", v1::DATA_TYPE_UNSPECIFIED, 8},
    {"I32", v1::DATA_TYPE_UNSPECIFIED, 4},
    {"U32", v1::DATA_TYPE_UNSPECIFIED, 4},
    {"I16", v1::DATA_TYPE_UNSPECIFIED, 2},
    {"U16", v1::DATA_TYPE_UNSPECIFIED, 2},
    {"I8", v1::DATA_TYPE_UNSPECIFIED, 1},
    {"U8", v1::DATA_TYPE_UNSPECIFIED, 1},
    {"BOOL", v1::DATA_TYPE_UNSPECIFIED, 1},
    {"F8_E4M3", v1::DATA_TYPE_F8_E4M3, 1},
    {"F8_E5M2", v1::DATA_TYPE_UNSPECIFIED, 1},
};

const SafetensorsType* FindType(absl::string_view name) {
  for (const SafetensorsType& row : kTypes) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

// A whole number >= 0 that fits int64.
bool IsCount(const Json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
}

// One entry of the header. data_begin: where the file's data starts.
absl::StatusOr<StoredTensor> ReadEntry(const MappedFile& file, const std::string& name,
                                       const Json& entry, uint64_t data_begin) {
  const std::string where = absl::StrCat(file.path(), ": ", Printable(name));
  const Json* dtype = FindMember(entry, "dtype");
  const Json* shape = FindMember(entry, "shape");
  const Json* offsets = FindMember(entry, "data_offsets");
  if (dtype == nullptr || !dtype->is_string() || shape == nullptr || !shape->is_array() ||
      offsets == nullptr || !offsets->is_array() || offsets->size() != 2 ||
      !std::all_of(offsets->begin(), offsets->end(), IsCount)) {
    return FileError(where, absl::StrCat("expected dtype, shape and data_offsets [begin, end], ",
                                         "found ", PrintableJson(entry)));
  }
  const SafetensorsType* type = FindType(dtype->get_ref<const std::string&>());
  if (type == nullptr) {
    return FileError(where, absl::StrCat("unknown dtype ", PrintableJson(*dtype)));
  }
  if (shape->size() > kMaxTensorDims || !std::all_of(shape->begin(), shape->end(), IsCount)) {
    return FileError(where, absl::StrCat("expected a shape of at most ", kMaxTensorDims,
                                         " whole numbers, found ", PrintableJson(*shape)));
  }
  StoredTensor tensor;
  tensor.name = name;
  tensor.type = type->type;
  tensor.type_name = type->name;
  tensor.shape = shape->get<std::vector<int64_t>>();
  tensor.file = &file;

  const uint64_t begin = (*offsets)[0].get<uint64_t>();
  const uint64_t end = (*offsets)[1].get<uint64_t>();
  const uint64_t data_bytes = file.size() - data_begin;
  if (begin > end || end > data_bytes) {
    return FileError(where, absl::StrCat("expected data_offsets within 0 .. ", data_bytes,
                                         ", found [", begin, ", ", end, ")"));
  }
  const auto bytes = StoredBytes(tensor.shape, {1, type->bytes});
  if (!bytes || *bytes != end - begin) {
    return FileError(where, absl::StrCat("expected ", bytes ? absl::StrCat(*bytes) : "too many",
                                         " bytes for ", type->name, " ", ShapeText(tensor.shape),
                                         ", data_offsets have ", end - begin));
  }
  tensor.offset = data_begin + begin;
  tensor.bytes = end - begin;
  return tensor;
}

// Sorted by offset, each range must begin where the one before ended, and the last end the file.
absl::Status CheckCoverage(const MappedFile& file, std::vector<const StoredTensor*> tensors,
                           uint64_t data_begin) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  uint64_t expected = data_begin;
  for (const StoredTensor* tensor : tensors) {
    if (tensor->offset != expected) {
      return FileError(
          file.path(),
          absl::StrCat(Printable(tensor->name), ": expected data at ", expected - data_begin,
                       ", data_offsets begin at ", tensor->offset - data_begin,
                       tensor->offset < expected ? " (overlap)" : " (hole)"));
    }
    expected += tensor->bytes;
  }
  if (expected != file.size()) {
    return FileError(file.path(), absl::StrCat("expected ", expected, " bytes, the file has ",
                                               file.size()));
  }
  return absl::OkStatus();
}

absl::Status CheckMetadata(const std::string& path, const Json& metadata) {
  const bool strings = metadata.is_object() &&
                       std::all_of(metadata.begin(), metadata.end(),
                                   [](const Json& value) { return value.is_string(); });
  if (strings) return absl::OkStatus();
  return FileError(path, "__metadata__: expected strings only");
}

// tensor name → shard file name, as the index says.
using WeightMap = std::map<std::string, std::string>;

absl::StatusOr<WeightMap> ReadIndex(const std::string& path) {
  TESSERA_ASSIGN_OR_RETURN(const Json index, ReadJsonFile(path, kMaxConfigBytes));
  const Json* map = FindMember(index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return FileError(path, "expected weight_map, an object of tensor names to file names");
  }
  WeightMap result;
  for (const auto& [tensor, shard] : map->items()) {
    // A plain name in the same folder; nothing that leads elsewhere.
    if (!shard.is_string() || shard.get_ref<const std::string&>().find('/') != std::string::npos ||
        !absl::EndsWith(shard.get_ref<const std::string&>(), ".safetensors")) {
      return FileError(path, absl::StrCat(Printable(tensor), ": expected a file name ending in ",
                                          ".safetensors, found ", PrintableJson(shard)));
    }
    result.emplace(tensor, shard.get<std::string>());
  }
  return result;
}

// Of "model-00001-of-00003.safetensors" the parts around the number, and the count.
struct ShardNumbering {
  std::string stem;   // "model-"
  std::string total;  // "00003"
};
std::optional<ShardNumbering> NumberingOf(absl::string_view name) {
  absl::ConsumeSuffix(&name, ".safetensors");
  const size_t of = name.rfind("-of-");
  if (of == name.npos) return std::nullopt;
  const absl::string_view total = name.substr(of + 4);
  const absl::string_view before = name.substr(0, of);
  if (total.empty() || total.size() > 6 || before.size() < total.size()) return std::nullopt;
  const absl::string_view number = before.substr(before.size() - total.size());
  const auto all_digits = [](absl::string_view text) {
    return std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  };
  if (!all_digits(total) || !all_digits(number)) return std::nullopt;
  return ShardNumbering{std::string(before.substr(0, before.size() - total.size())),
                        std::string(total)};
}

// Where no index says which shards there are, their own names do.
absl::Status CheckNumbering(const std::string& folder, const std::set<std::string>& names) {
  for (const std::string& name : names) {
    const auto numbering = NumberingOf(name);
    if (!numbering) continue;
    int total = 0;
    if (!absl::SimpleAtoi(numbering->total, &total)) continue;
    for (int number = 1; number <= total; ++number) {
      const std::string digits = absl::StrCat(number);
      const std::string zeros(numbering->total.size() - digits.size(), '0');
      const std::string shard = absl::StrCat(numbering->stem, zeros, digits, "-of-",
                                             numbering->total, ".safetensors");
      if (names.count(shard) == 0) {
        return absl::NotFoundError(absl::StrCat(folder, "/", shard, ": expected beside ", name,
                                                ", no such file"));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::set<std::string>> ListShards(const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".safetensors") names.insert(it->path().filename().string());
  }
  if (error) return FileError(folder, absl::StrCat("cannot list: ", error.message()));
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, ": expected *.safetensors, found none"));
  }
  // Beside it some folders hold the same weights under other names (consolidated.safetensors).
  if (names.count(kWholeModel) != 0) return std::set<std::string>{kWholeModel};
  TESSERA_RETURN_IF_ERROR(CheckNumbering(folder, names));
  return names;
}

// The index and the shards must tell the same story.
absl::Status CheckIndex(const std::string& index_path, const WeightMap& map,
                        const SafetensorsModel& model) {
  size_t found = 0;
  for (const StoredTensor& tensor : model.tensors) {
    const auto it = map.find(tensor.name);
    const std::string shard = std::filesystem::path(tensor.file->path()).filename().string();
    if (it == map.end() || it->second != shard) {
      return FileError(index_path,
                       absl::StrCat(Printable(tensor.name), ": expected in ",
                                    it == map.end() ? "no file" : Printable(it->second),
                                    ", found in ", Printable(shard)));
    }
    ++found;
  }
  if (found == map.size()) return absl::OkStatus();
  std::set<absl::string_view> names;
  for (const StoredTensor& tensor : model.tensors) names.insert(tensor.name);
  for (const auto& [tensor, shard] : map) {
    if (names.count(tensor) == 0) {
      return FileError(index_path, absl::StrCat(Printable(tensor), ": expected in ",
                                                Printable(shard), ", not found there"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<StoredTensor>> ReadSafetensorsHeader(const MappedFile& file) {
  TESSERA_ASSIGN_OR_RETURN(const auto prefix, file.Bytes(0, sizeof(uint64_t)));
  uint64_t header_bytes;
  std::memcpy(&header_bytes, prefix.data(), sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes) {
    return FileError(file.path(), absl::StrCat("expected a header of at most ", kMaxHeaderBytes,
                                               " bytes, the file says ", header_bytes));
  }
  TESSERA_ASSIGN_OR_RETURN(const auto header, file.Bytes(sizeof(uint64_t), header_bytes));
  if (header.empty() || header[0] != '{') {
    return FileError(file.path(), "expected the header to start with '{'");
  }
  TESSERA_ASSIGN_OR_RETURN(
      const Json root,
      ParseJsonObject(absl::StrCat(file.path(), ": header"),
                      absl::string_view(reinterpret_cast<const char*>(header.data()),
                                        header.size())));
  const uint64_t data_begin = sizeof(uint64_t) + header_bytes;
  std::vector<StoredTensor> tensors;
  for (const auto& [name, entry] : root.items()) {
    if (name == "__metadata__") {
      TESSERA_RETURN_IF_ERROR(CheckMetadata(file.path(), entry));
      continue;
    }
    TESSERA_ASSIGN_OR_RETURN(tensors.emplace_back(), ReadEntry(file, name, entry, data_begin));
  }
  std::vector<const StoredTensor*> sorted;
  sorted.reserve(tensors.size());
  for (const StoredTensor& tensor : tensors) sorted.push_back(&tensor);
  TESSERA_RETURN_IF_ERROR(CheckCoverage(file, std::move(sorted), data_begin));
  return tensors;
}

absl::StatusOr<SafetensorsModel> ReadSafetensorsFolder(const std::string& folder) {
  const std::string index_path = folder + "/model.safetensors.index.json";
  std::error_code error;
  const bool has_index = std::filesystem::exists(index_path, error);
  WeightMap map;
  std::set<std::string> shards;
  if (has_index) {
    TESSERA_ASSIGN_OR_RETURN(map, ReadIndex(index_path));
    for (const auto& [tensor, shard] : map) shards.insert(shard);
  } else {
    TESSERA_ASSIGN_OR_RETURN(shards, ListShards(folder));
  }
  if (shards.size() > kMaxShards) {
    return FileError(folder, absl::StrCat("expected at most ", kMaxShards, " shards, found ",
                                          shards.size()));
  }
  SafetensorsModel model;
  std::map<std::string, std::string> seen;  // tensor → file
  for (const std::string& shard : shards) {
    TESSERA_ASSIGN_OR_RETURN(auto file, MappedFile::Open(absl::StrCat(folder, "/", shard)));
    TESSERA_ASSIGN_OR_RETURN(auto tensors, ReadSafetensorsHeader(*file));
    for (StoredTensor& tensor : tensors) {
      const auto [it, inserted] = seen.emplace(tensor.name, shard);
      if (!inserted) {
        return FileError(file->path(), absl::StrCat(Printable(tensor.name),
                                                    ": already in ", Printable(it->second)));
      }
      model.tensors.push_back(std::move(tensor));
    }
    model.files.push_back(std::move(file));
  }
  if (has_index) TESSERA_RETURN_IF_ERROR(CheckIndex(index_path, map, model));
  return model;
}

}  // namespace tessera::worker
