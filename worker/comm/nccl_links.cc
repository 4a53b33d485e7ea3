#include "worker/comm/nccl_links.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/comm/nccl_group.h"

namespace tessera::worker {
namespace {

size_t Bytes16(int64_t count) { return static_cast<size_t>(count) * 2; }

class NcclStageLink : public StageLink {
 public:
  NcclStageLink(std::shared_ptr<NcclGroup> stages, int stage)
      : stages_(std::move(stages)), stage_(stage) {}

  absl::Status SendToNext(const kernels::Activation* data, int64_t count) override {
    TESSERA_RETURN_IF_ERROR(stages_->first_cause());
    return stages_->Check({"SendToNext", Bytes16(count), stages_->world_rank()}, "ncclSend",
                          ncclSend(data, static_cast<size_t>(count), ncclBfloat16, stage_ + 1,
                                   stages_->comm(), stages_->stream()));
  }

  absl::Status ReceiveFromPrevious(kernels::Activation* data, int64_t count) override {
    TESSERA_RETURN_IF_ERROR(stages_->first_cause());
    return stages_->Check({"ReceiveFromPrevious", Bytes16(count), stages_->world_rank()},
                          "ncclRecv",
                          ncclRecv(data, static_cast<size_t>(count), ncclBfloat16, stage_ - 1,
                                   stages_->comm(), stages_->stream()));
  }

 private:
  const std::shared_ptr<NcclGroup> stages_;
  const int stage_;
};

class NcclLink : public ActivationLink {
 public:
  // Either group may be null: one rank, or one stage.
  NcclLink(const LinkSetup& setup, std::shared_ptr<NcclGroup> tp, std::shared_ptr<NcclGroup> stages)
      : device_(setup.device),
        world_rank_(setup.world_rank),
        deadline_(setup.deadline),
        tp_(std::move(tp)),
        stages_(std::move(stages)) {}

  // NCCL does not let go of a communicator that a recording still uses.
  ~NcclLink() override { device_->ForgetRecordings(); }

  absl::Status AllReduceSum(kernels::Activation* data, int64_t count) override {
    if (tp_ == nullptr) return absl::OkStatus();
    TESSERA_RETURN_IF_ERROR(tp_->first_cause());
    return tp_->Check({"AllReduceSum", Bytes16(count), world_rank_}, "ncclAllReduce",
                      ncclAllReduce(data, data, static_cast<size_t>(count), ncclBfloat16, ncclSum,
                                    tp_->comm(), tp_->stream()));
  }

  absl::Status AllReduceSum(kernels::Partial* data, int64_t count) override {
    return AllReduceSum(reinterpret_cast<kernels::Activation*>(data), count);  // on GPUs the same
  }

  absl::Status AllReduceSum(kernels::SquareSum* data, int64_t count) override {
    if (tp_ == nullptr) return absl::OkStatus();
    TESSERA_RETURN_IF_ERROR(tp_->first_cause());
    return tp_->Check({"AllReduceSum", static_cast<size_t>(count) * sizeof(float), world_rank_},
                      "ncclAllReduce",
                      ncclAllReduce(data, data, static_cast<size_t>(count), ncclFloat32, ncclSum,
                                    tp_->comm(), tp_->stream()));
  }

  bool on_device() const override { return true; }

  absl::Status AllGather(const std::byte* mine, size_t bytes, std::byte* all) override {
    if (tp_ == nullptr) return ActivationLink::AllGather(mine, bytes, all);
    TESSERA_RETURN_IF_ERROR(tp_->first_cause());
    return tp_->Check({"AllGather", bytes, world_rank_}, "ncclAllGather",
                      ncclAllGather(mine, all, bytes, ncclUint8, tp_->comm(), tp_->stream()));
  }

  absl::StatusOr<std::byte*> Allocate(size_t bytes) override {
    if (tp_ != nullptr) return tp_->Allocate(bytes);
    TESSERA_ASSIGN_OR_RETURN(kernels::Device::Buffer buffer, device_->Allocate(bytes));
    memory_.push_back(std::move(buffer));
    return memory_.back().get();
  }

  absl::Status Wait(absl::FunctionRef<absl::Status()> between) override {
    for (Backoff patience(kGpuStep);; patience.Wait()) {
      TESSERA_ASSIGN_OR_RETURN(const bool idle, Look());
      if (idle) return absl::OkStatus();
      if (absl::Status status = between(); !status.ok()) return FailAll(status);
      if (patience.waited() >= deadline_) {
        return FailAll(CallError({"Wait", 0, world_rank_}, absl::StatusCode::kDeadlineExceeded,
                                 absl::StrCat("the device and its exchange with other ranks are "
                                              "not done within ",
                                              absl::FormatDuration(deadline_))));
      }
    }
  }

  absl::Status Check() override { return Look().status(); }

  void GiveUp(const absl::Status& why) override { FailAll(why).IgnoreError(); }

 private:
  // Whether the device has nothing to do; an error when it or a group has failed.
  absl::StatusOr<bool> Look() {
    absl::StatusOr<bool> idle = device_->Idle();
    if (!idle.ok()) return FailAll(idle.status());
    if (*idle) return true;
    for (NcclGroup* group : {tp_.get(), stages_.get()}) {
      if (group == nullptr) continue;
      const absl::Status status = group->CheckAsync({"exchange with other ranks", 0, world_rank_});
      if (!status.ok()) return FailAll(status);
    }
    return false;
  }

  // A device stuck in a collective goes on only when its communicator is aborted.
  absl::Status FailAll(const absl::Status& why) {
    for (NcclGroup* group : {tp_.get(), stages_.get()}) {
      if (group != nullptr) group->Fail(why).IgnoreError();
    }
    return why;
  }

  kernels::Device* const device_;
  const int world_rank_;
  const absl::Duration deadline_;
  const std::shared_ptr<NcclGroup> tp_;
  const std::shared_ptr<NcclGroup> stages_;
  std::vector<kernels::Device::Buffer> memory_;
};

absl::StatusOr<std::shared_ptr<NcclGroup>> Join(const LinkSetup& setup, Communicator* group) {
  if (group == nullptr || group->size() == 1) return nullptr;
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<NcclGroup> joined,
                           NcclGroup::Create({.device = setup.device,
                                              .stream = kernels::cuda::StreamOf(setup.device),
                                              .world_rank = setup.world_rank,
                                              .group = group,
                                              .deadline = setup.deadline}));
  return std::shared_ptr<NcclGroup>(std::move(joined));
}

}  // namespace

absl::StatusOr<Links> MakeNcclLinks(const LinkSetup& setup) {
  if (kernels::cuda::StreamOf(setup.device) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("NCCL joins GPUs; this rank computes on ", setup.device->Name()));
  }
  TESSERA_ASSIGN_OR_RETURN(std::shared_ptr<NcclGroup> tp, Join(setup, setup.tp));
  TESSERA_ASSIGN_OR_RETURN(std::shared_ptr<NcclGroup> stages, Join(setup, setup.pp));
  Links links;
  if (stages != nullptr) {
    links.stage = std::make_unique<NcclStageLink>(stages, setup.pp->rank());
  }
  links.tp = std::make_unique<NcclLink>(setup, std::move(tp), std::move(stages));
  return links;
}

}  // namespace tessera::worker
