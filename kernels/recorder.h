// Recorded steps: a device that is told the same work again and again may record it once and replay
// it, and then takes a step while it is at work on the one before. The defaults record nothing.
//
// Threads and failures: as the device (device.h).
//
//   TESSERA_RETURN_IF_ERROR(recorder.Replayable(kLayers, n, [&] { return RunAllLayers(n); }));
#ifndef TESSERA_KERNELS_RECORDER_H_
#define TESSERA_KERNELS_RECORDER_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/views.h"

namespace tessera::kernels {

class Recorder {
 public:
  virtual ~Recorder() = default;

  // Runs `work`, which calls operations for n rows of the step; a device may record them the first
  // time and replay the recording whenever the same `key` and n come again, so `work` must call the
  // same operations on the same pointers each time. Its Status is returned.
  virtual absl::Status Replayable(int key, int64_t n, absl::FunctionRef<absl::Status()> work) {
    static_cast<void>(key), static_cast<void>(n);
    return work();
  }

  // Drops all recordings: something that they use besides the device is about to go.
  virtual void ForgetRecordings() {}

  // Whether the device can be given this step while it is at work on the one before: nothing that
  // the step needs (memory that grows, work that was never run) makes the host wait for the device.
  virtual bool TakesBehind(const StepView& step) const {
    static_cast<void>(step);
    return false;
  }
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_RECORDER_H_
