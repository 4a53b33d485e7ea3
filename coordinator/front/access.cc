#include "coordinator/front/access.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTenantNameBytes = 128;
constexpr size_t kMaxFileBytes = size_t{16} << 20;
constexpr double kMaxWeight = 1e6;

struct Key {
  std::string value;
  std::string tenant;  // empty: of none
};

bool IsPrintable(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

// Takes as long for a key that is wrong at its first byte as for one that is wrong at its last.
bool SameBytes(absl::string_view secret, absl::string_view offered) {
  unsigned difference = secret.size() == offered.size() ? 0 : 1;
  for (size_t i = 0; i < offered.size(); ++i) {
    const char expected = secret.empty() ? '\0' : secret[i % secret.size()];
    difference |= static_cast<unsigned char>(expected ^ offered[i]);
  }
  return difference == 0;
}

// ---- the tenants' file --------------------------------------------------------------------------

// What the file says; every error names the file and the place in it.
class TenantsFile {
 public:
  explicit TenantsFile(std::string path) : path_(std::move(path)) {}

  absl::Status Read(std::vector<Key>* keys, std::map<std::string, double>* weights) {
    TESSERA_ASSIGN_OR_RETURN(const std::string text, Text());
    const Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (root.is_discarded()) return Error("", "is not JSON");
    TESSERA_RETURN_IF_ERROR(CheckFields(root, "", {"default_weight", "tenants"}));
    double default_weight = 1;
    if (root.contains("default_weight")) {
      TESSERA_ASSIGN_OR_RETURN(default_weight, Weight(root["default_weight"], "/default_weight"));
    }
    if (!root.contains("tenants") || !root["tenants"].is_array()) {
      return Error("/tenants", "expected an array");
    }
    for (size_t i = 0; i < root["tenants"].size(); ++i) {
      TESSERA_RETURN_IF_ERROR(ReadTenant(root["tenants"][i], absl::StrCat("/tenants/", i),
                                         default_weight, keys, weights));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Error(absl::string_view place, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " (--tenants-file)", place.empty() ? "" : " at ", place, ": ", what));
  }

  absl::StatusOr<std::string> Text() const {
    std::ifstream file(path_, std::ios::binary);
    if (!file) return Error("", "cannot be read");
    std::string text(kMaxFileBytes + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kMaxFileBytes) {
      return Error("", absl::StrCat("is longer than ", kMaxFileBytes, " bytes"));
    }
    return text;
  }

  absl::Status CheckFields(const Json& object, const std::string& place,
                           const std::vector<std::string>& known) const {
    if (!object.is_object()) return Error(place, "expected an object");
    for (const auto& [name, value] : object.items()) {
      bool is_known = false;
      for (const std::string& candidate : known) is_known = is_known || candidate == name;
      if (!is_known) return Error(absl::StrCat(place, "/", Quoted(name)), "is not a known field");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<double> Weight(const Json& value, const std::string& place) const {
    const double weight = value.is_number() ? value.get<double>() : 0;
    if (weight > 0 && weight <= kMaxWeight) return weight;
    return Error(place, absl::StrCat("expected a number above 0, at most ", kMaxWeight));
  }

  absl::Status ReadTenant(const Json& tenant, const std::string& place, double default_weight,
                          std::vector<Key>* keys, std::map<std::string, double>* weights) const {
    TESSERA_RETURN_IF_ERROR(CheckFields(tenant, place, {"name", "weight", "api_keys"}));
    if (!tenant.contains("name") || !tenant["name"].is_string()) {
      return Error(absl::StrCat(place, "/name"), "expected a string");
    }
    const std::string name = tenant["name"];
    if (name.empty() || name.size() > kMaxTenantNameBytes || !IsPrintable(name)) {
      return Error(absl::StrCat(place, "/name"),
                   absl::StrCat("expected 1 .. ", kMaxTenantNameBytes, " printable characters"));
    }
    double weight = default_weight;
    if (tenant.contains("weight")) {
      TESSERA_ASSIGN_OR_RETURN(weight, Weight(tenant["weight"], absl::StrCat(place, "/weight")));
    }
    if (!weights->emplace(name, weight).second) {
      return Error(absl::StrCat(place, "/name"), absl::StrCat(Quoted(name), " stands here twice"));
    }
    if (!tenant.contains("api_keys")) return absl::OkStatus();
    return ReadKeys(tenant["api_keys"], absl::StrCat(place, "/api_keys"), name, keys);
  }

  absl::Status ReadKeys(const Json& list, const std::string& place, const std::string& tenant,
                        std::vector<Key>* keys) const {
    if (!list.is_array()) return Error(place, "expected an array of strings");
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string at = absl::StrCat(place, "/", i);
      if (!list[i].is_string() || list[i].get_ref<const std::string&>().empty()) {
        return Error(at, "expected a key, a string that is not empty");
      }
      const std::string& key = list[i].get_ref<const std::string&>();
      for (const Key& other : *keys) {
        if (other.value == key) return Error(at, "the same key stands elsewhere");
      }
      keys->push_back({key, tenant});
    }
    return absl::OkStatus();
  }

  const std::string path_;
};

// ---- admission ----------------------------------------------------------------------------------

class AccessImpl final : public Access {
 public:
  AccessImpl(std::vector<Key> keys, std::map<std::string, double> weights)
      : keys_(std::move(keys)), weights_(std::move(weights)) {}

  absl::StatusOr<std::string> Admit(absl::string_view authorization,
                                    absl::string_view tenant) const override {
    TESSERA_RETURN_IF_ERROR(CheckTenantName(tenant));
    if (!asks_for_keys()) return std::string(tenant);
    TESSERA_ASSIGN_OR_RETURN(const Key* key, FindKey(authorization));
    if (key->tenant.empty()) {
      if (!HasKeys(tenant)) return std::string(tenant);
      return absl::PermissionDeniedError(
          absl::StrCat("tenant ", Quoted(tenant), " is served with its own key only"));
    }
    if (tenant.empty() || tenant == key->tenant) return key->tenant;
    return absl::PermissionDeniedError(
        absl::StrCat("the key does not belong to tenant ", Quoted(tenant)));
  }

  bool asks_for_keys() const override { return !keys_.empty(); }
  std::map<std::string, double> weights() const override { return weights_; }

 private:
  static absl::Status CheckTenantName(absl::string_view tenant) {
    if (tenant.size() > kMaxTenantNameBytes) {
      return wire::FieldError("x-tenant-id", absl::StrCat("has ", tenant.size(),
                                                          " bytes; expected at most ",
                                                          kMaxTenantNameBytes));
    }
    if (IsPrintable(tenant)) return absl::OkStatus();
    return wire::FieldError("x-tenant-id", "holds a character that is not printable ASCII");
  }

  absl::StatusOr<const Key*> FindKey(absl::string_view authorization) const {
    if (authorization.empty()) {
      return absl::UnauthenticatedError("an API key is required: authorization: Bearer KEY");
    }
    constexpr size_t kScheme = 7;
    if (!absl::StartsWithIgnoreCase(authorization, "bearer ")) {
      return absl::UnauthenticatedError("expected authorization: Bearer KEY");
    }
    const absl::string_view offered =
        absl::StripAsciiWhitespace(authorization.substr(kScheme));
    const Key* found = nullptr;
    for (const Key& key : keys_) {
      if (SameBytes(key.value, offered)) found = &key;  // goes on: the time tells nothing
    }
    if (found == nullptr) return absl::UnauthenticatedError("the API key is unknown");
    return found;
  }

  bool HasKeys(absl::string_view tenant) const {
    for (const Key& key : keys_) {
      if (!tenant.empty() && key.tenant == tenant) return true;
    }
    return false;
  }

  const std::vector<Key> keys_;
  const std::map<std::string, double> weights_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Access>> Access::Create(const AccessOptions& options) {
  std::vector<Key> keys;
  std::map<std::string, double> weights;
  for (const std::string& key : options.api_keys) {
    if (key.empty()) return absl::InvalidArgumentError("--api-key is empty; expected a key");
    keys.push_back({key, ""});
  }
  if (!options.tenants_file.empty()) {
    TESSERA_RETURN_IF_ERROR(TenantsFile(options.tenants_file).Read(&keys, &weights));
  }
  return std::make_unique<const AccessImpl>(std::move(keys), std::move(weights));
}

}  // namespace tessera::coordinator
