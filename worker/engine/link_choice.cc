#include "worker/engine/link_choice.h"

#include <unistd.h>

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

// What a rank tells the others.
struct Said {
  char host[64] = "";
  int32_t gpu = -1;
  int32_t has_nccl = 0;
  int32_t preference = 0;
};

// Why NCCL cannot join these ranks; nullopt when it can.
std::optional<std::string> Hindrance(const std::vector<Said>& all) {
  std::map<std::pair<std::string, int>, size_t> rank_of;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Said& said = all[rank];
    if (said.gpu < 0) return absl::StrCat("rank ", rank, " does not compute on a GPU");
    if (said.has_nccl == 0) return absl::StrCat("rank ", rank, " was built without NCCL");
    const auto [other, is_new] = rank_of.try_emplace({said.host, said.gpu}, rank);
    if (!is_new) {
      return absl::StrCat("ranks ", other->second, " and ", rank, " share GPU ", said.gpu, " of ",
                          said.host, "; NCCL needs one for each (--comm mpi does not)");
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<LinkPreference> ParseLinkPreference(absl::string_view name) {
  if (name == "auto") return LinkPreference::kAuto;
  if (name == "mpi") return LinkPreference::kMpi;
  if (name == "nccl") return LinkPreference::kNccl;
  return absl::InvalidArgumentError(absl::StrCat("'", name, "'; expected auto, mpi or nccl"));
}

absl::StatusOr<bool> ChooseLinks(Communicator& world, LinkPreference preference,
                                 const LinkPlace& place) {
  Said mine;
  gethostname(mine.host, sizeof(mine.host) - 1);
  mine.gpu = place.gpu;
  mine.has_nccl = place.has_nccl ? 1 : 0;
  mine.preference = static_cast<int32_t>(preference);
  std::vector<Said> all(world.size());
  TESSERA_RETURN_IF_ERROR(world.AllGather(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&mine), sizeof(mine)),
      absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * sizeof(Said))));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].preference != all[0].preference) {
      return absl::InvalidArgumentError(
          absl::StrCat("--comm differs between ranks 0 and ", rank));
    }
  }
  if (preference == LinkPreference::kMpi) return false;
  const std::optional<std::string> hindrance = Hindrance(all);
  if (preference == LinkPreference::kNccl && hindrance) {
    return absl::FailedPreconditionError(absl::StrCat("--comm nccl: ", *hindrance));
  }
  return !hindrance && world.size() > 1;
}

}  // namespace tessera::worker
