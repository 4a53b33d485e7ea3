#include "worker/comm/activation_link.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "proto/base/status_macros.h"
#include "worker/comm/rank_sum.h"

namespace tessera::worker {
namespace {

// Below it each rank sums everything: that takes one meeting of the ranks instead of two.
constexpr int64_t kSplitFromBytes = int64_t{64} << 10;
// Rows are summed and used in pieces that stay in the cache.
constexpr int64_t kPieceBytes = int64_t{128} << 10;

class HostLink : public ActivationLink {
 public:
  HostLink(kernels::DeviceMemory* device, Communicator* tp) : device_(device), tp_(tp) {}

  absl::Status AllReduceSum(kernels::Activation* data, int64_t count) override {
    if (tp_->size() == 1) return absl::OkStatus();
    if (float* floats = device_->HostFloats(data)) {
      TESSERA_RETURN_IF_ERROR(device_->Sync());
      return tp_->AllReduceSum(absl::MakeSpan(floats, count));
    }
    copy_.resize(count);
    TESSERA_RETURN_IF_ERROR(device_->ReadActivations(data, count, copy_.data()));
    TESSERA_RETURN_IF_ERROR(tp_->AllReduceSum(absl::MakeSpan(copy_)));
    return device_->WriteActivations(copy_.data(), count, data);
  }

  absl::Status AllReduceSum(kernels::Partial* data, int64_t count) override {
    if (tp_->size() == 1) return absl::OkStatus();
    if (double* doubles = device_->HostPartials(data)) {
      TESSERA_RETURN_IF_ERROR(device_->Sync());
      return tp_->AllReduceSum(absl::MakeSpan(doubles, count));
    }
    partial_copy_.resize(count);
    TESSERA_RETURN_IF_ERROR(device_->ReadPartials(data, count, partial_copy_.data()));
    TESSERA_RETURN_IF_ERROR(tp_->AllReduceSum(absl::MakeSpan(partial_copy_)));
    return device_->WritePartials(partial_copy_.data(), count, data);
  }

  absl::Status AllReduceSum(kernels::SquareSum* data, int64_t count) override {
    if (tp_->size() == 1) return absl::OkStatus();
    if (double* doubles = device_->HostSquareSums(data)) {
      TESSERA_RETURN_IF_ERROR(device_->Sync());
      return tp_->AllReduceSum(absl::MakeSpan(doubles, count));
    }
    copy_.resize(count);
    const size_t bytes = device_->SquareSumBytes(count);
    TESSERA_RETURN_IF_ERROR(device_->ReadBytes(data, bytes, copy_.data()));
    TESSERA_RETURN_IF_ERROR(tp_->AllReduceSum(absl::MakeSpan(copy_)));
    return device_->WriteBytes(copy_.data(), bytes, data);
  }

  bool SplitsRows(int64_t rows, int64_t cols) const override {
    return !shared_.empty() && rows >= tp_->size() &&
           rows * cols * static_cast<int64_t>(sizeof(double)) >= kSplitFromBytes;
  }

  absl::Status AddRows(kernels::Partial* data, int64_t rows, int64_t cols,
                       absl::FunctionRef<void(int64_t begin, int64_t count)> use) override {
    if (!SplitsRows(rows, cols)) return ActivationLink::AddRows(data, rows, cols, use);
    TESSERA_RETURN_IF_ERROR(Meet());  // all summands are there
    std::vector<const void*> summands(static_cast<size_t>(tp_->size()));
    const int64_t most = std::max<int64_t>(1, kPieceBytes / (cols * sizeof(double)));
    const int64_t end = Cut(rows, tp_->rank() + 1);
    for (int64_t begin = Cut(rows, tp_->rank()); begin < end; begin += most) {
      const int64_t count = std::min(most, end - begin);
      double* const own = device_->HostPartials(data) + begin * cols;
      for (size_t peer = 0; peer < summands.size(); ++peer) summands[peer] = Of(peer, own);
      // Nobody else reads these rows of the own summand.
      SumInRankOrder<double>(summands, absl::MakeSpan(own, count * cols));
      use(begin, count);
    }
    return absl::OkStatus();
  }

  kernels::Activation* Common(kernels::Activation* own) const override {
    return reinterpret_cast<kernels::Activation*>(Of(0, own));
  }

  absl::Status Meet() override { return tp_->Barrier(); }

  absl::Status GatherRows(kernels::Activation* data, int64_t rows, int64_t cols) override {
    TESSERA_RETURN_IF_ERROR(Meet());
    for (int peer = 0; peer < tp_->size(); ++peer) {
      if (peer == tp_->rank()) continue;
      const int64_t begin = Cut(rows, peer);
      float* const to = device_->HostFloats(data) + begin * cols;
      std::memcpy(to, Of(static_cast<size_t>(peer), to),
                  static_cast<size_t>((Cut(rows, peer + 1) - begin) * cols) * sizeof(float));
    }
    return Meet();  // the own rows may change again
  }

  bool on_device() const override { return tp_->size() == 1; }

  absl::StatusOr<std::byte*> Allocate(size_t bytes) override {
    if (tp_->size() > 1 && device_->ActivationType() == kernels::DType::kF32) {
      TESSERA_ASSIGN_OR_RETURN(std::vector<std::byte*> pieces, tp_->AllocateShared(bytes));
      if (!pieces.empty()) {
        shared_.push_back({.pieces = std::move(pieces), .bytes = bytes});
        return shared_.back().pieces[static_cast<size_t>(tp_->rank())];
      }
    }
    TESSERA_ASSIGN_OR_RETURN(kernels::DeviceMemory::Buffer buffer, device_->Allocate(bytes));
    memory_.push_back(std::move(buffer));
    return memory_.back().get();
  }

  absl::Status Wait(absl::FunctionRef<absl::Status()> /*between*/) override {
    return device_->Sync();
  }

  absl::Status Check() override { return device_->Idle().status(); }

 private:
  struct Shared {
    std::vector<std::byte*> pieces;  // by rank
    size_t bytes = 0;                // of each
  };

  // How many of `rows` come before rank `rank`'s.
  int64_t Cut(int64_t rows, int rank) const { return rows * rank / tp_->size(); }

  // What is `own` here, in the memory of `peer`. `own` comes from Allocate.
  template <typename T>
  T* Of(size_t peer, T* own) const {
    auto* const address = reinterpret_cast<std::byte*>(own);
    for (const Shared& shared : shared_) {
      std::byte* const mine = shared.pieces[static_cast<size_t>(tp_->rank())];
      if (address < mine || address >= mine + shared.bytes) continue;
      return reinterpret_cast<T*>(shared.pieces[peer] + (address - mine));
    }
    assert(false);
    return own;
  }

  kernels::DeviceMemory* const device_;
  Communicator* const tp_;
  std::vector<float> copy_;
  std::vector<double> partial_copy_;
  std::vector<kernels::DeviceMemory::Buffer> memory_;
  std::vector<Shared> shared_;
};

}  // namespace

Links MakeHostLinks(const LinkSetup& setup) {
  return {std::make_unique<HostLink>(setup.device, setup.tp), nullptr};
}

}  // namespace tessera::worker
