#include "coordinator/front/held_chunks.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

// What a message held in memory costs beside its bytes on the wire, and each of its log
// probabilities, which are messages too.
constexpr size_t kMessageBytes = 256;
constexpr size_t kLogprobBytes = 128;

size_t CountLogprobs(const google::protobuf::RepeatedPtrField<v1::TokenLogprobs>& tokens) {
  size_t count = 0;
  for (const v1::TokenLogprobs& token : tokens) {
    count += 2 + static_cast<size_t>(token.top_size());
  }
  return count;
}

}  // namespace

void MergeChunk(v1::GenerateResponse&& more, v1::GenerateResponse& chunk) {
  // MergeFrom appends to repeated fields but replaces strings.
  std::string text = std::move(*chunk.mutable_text());
  text.append(more.text());
  chunk.MergeFrom(more);
  chunk.set_text(std::move(text));
}

size_t HeldChunks::BytesOf(const v1::GenerateResponse& chunk) {
  return chunk.ByteSizeLong() +
         kLogprobBytes * (CountLogprobs(chunk.logprobs()) + CountLogprobs(chunk.prompt_logprobs()));
}

void HeldChunks::Add(v1::GenerateResponse chunk, int prompt) {
  const size_t bytes = BytesOf(chunk) + kMessageBytes;
  bytes_ += bytes;
  held_.push_back({std::move(chunk), prompt, bytes});
}

void HeldChunks::Merge(v1::GenerateResponse chunk) {
  const size_t bytes = BytesOf(chunk);
  Held* const target = MergeTarget(chunk, bytes);
  if (target == nullptr) return Add(std::move(chunk));
  MergeChunk(std::move(chunk), target->chunk);
  target->bytes += bytes;
  bytes_ += bytes;
}

// There is at most one message with room for each choice: the newest.
HeldChunks::Held* HeldChunks::MergeTarget(const v1::GenerateResponse& chunk, size_t bytes) {
  for (auto held = held_.rbegin(); held != held_.rend(); ++held) {
    if (held->chunk.index() == chunk.index()) {
      return held->bytes + bytes <= kMergedBytes ? &*held : nullptr;
    }
    if (chunk.has_usage()) return nullptr;
  }
  return nullptr;
}

HeldChunks::Held HeldChunks::Take() {
  Held taken = std::move(held_.front());
  held_.pop_front();
  bytes_ -= taken.bytes;
  return taken;
}

void HeldChunks::Clear() {
  held_.clear();
  bytes_ = 0;
}

absl::Status HeldChunks::CheckBound() const {
  if (bytes_ <= kMostBytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the client does not read: ", bytes_, " bytes wait for it"));
}

}  // namespace tessera::coordinator
