#include "worker/comm/activation_link.h"

#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "proto/wire/status_macros.h"

namespace tessera::worker {
namespace {

class HostLink : public ActivationLink {
 public:
  HostLink(kernels::Device* device, Communicator* tp) : device_(device), tp_(tp) {}

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

  bool on_device() const override { return tp_->size() == 1; }

  absl::StatusOr<std::byte*> Allocate(size_t bytes) override {
    TESSERA_ASSIGN_OR_RETURN(kernels::Device::Buffer buffer, device_->Allocate(bytes));
    memory_.push_back(std::move(buffer));
    return memory_.back().get();
  }

  absl::Status Wait(absl::FunctionRef<absl::Status()> /*between*/) override {
    return device_->Sync();
  }

  absl::Status Check() override { return device_->Idle().status(); }

 private:
  kernels::Device* const device_;
  Communicator* const tp_;
  std::vector<float> copy_;
  std::vector<double> partial_copy_;
  std::vector<kernels::Device::Buffer> memory_;
};

}  // namespace

Links MakeHostLinks(const LinkSetup& setup) {
  return {std::make_unique<HostLink>(setup.device, setup.tp), nullptr};
}

}  // namespace tessera::worker
