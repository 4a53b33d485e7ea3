#include "worker/engine/step_message.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

static_assert(std::endian::native == std::endian::little, "messages are written in memory order");

struct Prefix {
  uint32_t magic = 0;
  uint32_t kind = 0;
  uint64_t header_bytes = 0;
};
constexpr uint32_t kMagic = 0x314d5354;  // "TSM1"

}  // namespace

Bytes EncodeStepMessage(StepMessageKind kind, absl::string_view header,
                        absl::Span<const float> activations) {
  const Prefix prefix{kMagic, static_cast<uint32_t>(kind), header.size()};
  const size_t activation_bytes = activations.size() * sizeof(float);
  Bytes bytes(sizeof(prefix) + header.size() + activation_bytes);
  std::byte* out = bytes.data();
  std::memcpy(out, &prefix, sizeof(prefix));
  out += sizeof(prefix);
  if (!header.empty()) std::memcpy(out, header.data(), header.size());
  out += header.size();
  if (activation_bytes > 0) std::memcpy(out, activations.data(), activation_bytes);
  return bytes;
}

absl::StatusOr<StepMessage> StepMessage::Decode(Bytes bytes) {
  Prefix prefix;
  if (bytes.size() < sizeof(prefix)) {
    return absl::InternalError(absl::StrCat("step message: expected at least ", sizeof(prefix),
                                            " bytes, got ", bytes.size()));
  }
  std::memcpy(&prefix, bytes.data(), sizeof(prefix));
  if (prefix.magic != kMagic) {
    return absl::InternalError(absl::StrCat("step message: expected magic ", absl::Hex(kMagic),
                                            ", got ", absl::Hex(prefix.magic)));
  }
  const bool known = prefix.kind >= static_cast<uint32_t>(StepMessageKind::kStep) &&
                     prefix.kind <= static_cast<uint32_t>(StepMessageKind::kEnqueue);
  if (!known || prefix.header_bytes > bytes.size() - sizeof(prefix)) {
    return absl::InternalError(absl::StrCat("step message: kind ", prefix.kind,
                                            " with a header of ", prefix.header_bytes,
                                            " bytes in a message of ", bytes.size()));
  }
  return StepMessage(std::move(bytes), static_cast<StepMessageKind>(prefix.kind),
                     prefix.header_bytes);
}

absl::string_view StepMessage::header() const {
  return {reinterpret_cast<const char*>(bytes_.data()) + sizeof(Prefix), header_bytes_};
}

absl::Span<const std::byte> StepMessage::activations() const {
  return absl::MakeConstSpan(bytes_).subspan(sizeof(Prefix) + header_bytes_);
}

}  // namespace tessera::worker
