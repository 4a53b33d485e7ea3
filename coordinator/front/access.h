// Who may call, and for which tenant. Immutable; any thread.
//
// The tenants' file is JSON:
//   {"default_weight": 1,
//    "tenants": [{"name": "search", "weight": 3, "api_keys": ["sk-..."]}, ...]}
//
//   TESSERA_ASSIGN_OR_RETURN(auto access, Access::Create({.api_keys = {"k"}, .tenants_file = path}));
//   TESSERA_ASSIGN_OR_RETURN(std::string tenant, access->Admit("Bearer k", "search"));
#ifndef TESSERA_COORDINATOR_FRONT_ACCESS_H_
#define TESSERA_COORDINATOR_FRONT_ACCESS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator {

struct AccessOptions {
  std::vector<std::string> api_keys = {};  // --api-key; of no tenant
  std::string tenants_file = {};           // empty: none
};

class Access {
 public:
  // INVALID_ARGUMENT naming the file, the place in it and what was expected.
  static absl::StatusOr<std::unique_ptr<const Access>> Create(const AccessOptions& options);

  // authorization: the header as sent ("Bearer KEY"), empty without. tenant: x-tenant-id, empty
  // without. The tenant to charge: the key's own if it has one, otherwise the one named, otherwise
  // "". UNAUTHENTICATED for a missing or unknown key where any key is configured (compared in
  // constant time); INVALID_ARGUMENT for a tenant name over 128 bytes or with unprintable
  // characters; PERMISSION_DENIED when a tenant's key comes with another tenant's name, or when a
  // tenant that has keys of its own is named without one of them.
  virtual absl::StatusOr<std::string> Admit(absl::string_view authorization,
                                            absl::string_view tenant) const = 0;

  virtual bool asks_for_keys() const = 0;
  virtual std::map<std::string, double> weights() const = 0;  // of the tenants in the file
  virtual ~Access() = default;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_ACCESS_H_
