// A device's memory: allocating it, weights in the layout the device multiplies best, and what goes
// between device and host.
//
// What is in device memory has a type of its own, so that a host pointer cannot be taken for it:
// Activation* (rows of the device's activation type), Partial* (sums before the ranks add theirs
// up), WeightMatrix (views.h and tensor.h). Plain float pointers named `weight`, `bias`, `eps` are
// float32 vectors in device memory. Host memory is said to be so.
//
// Ownership: buffers are the caller's; every other pointer is borrowed. Threads and failures: as
// the device (device.h).
//
//   TESSERA_ASSIGN_OR_RETURN(auto buffer, memory.Allocate(bytes));
//   TESSERA_RETURN_IF_ERROR(memory.WriteBytes(from, bytes, buffer.get()));
#ifndef TESSERA_KERNELS_DEVICE_MEMORY_H_
#define TESSERA_KERNELS_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor.h"
#include "kernels/views.h"

namespace tessera::kernels {

// Elements of the device's activation type in its memory: float32 on cpu, bfloat16 on cuda. Never
// defined: only the device knows what it points to.
struct Activation;

// Sums of a product whose columns are cut, before the ranks add theirs up; never defined either. On
// cpu float64: sums of float32 numbers are exact in it but for a rare last bit, so that the order
// in which ranks and columns are added does not show, and a layout computes what every other does.
// On cuda it is what Activation is.
struct Partial;

// Sums of squares of rows whose columns are spread over ranks, before the ranks add theirs up;
// never defined either. float64 on cpu, exact as Partial is; float32 on cuda.
struct SquareSum;

class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  // kF32 or kBF16.
  virtual DType ActivationType() const = 0;
  // What keys and values are kept as, kF32 or kBF16, and how they lie.
  virtual DType KvType() const = 0;
  virtual KvLayout CacheLayout() const = 0;

  // Uninitialized device memory, aligned to 64 bytes. RESOURCE_EXHAUSTED when there is none.
  // Freed by the returned owner.
  using Buffer = std::unique_ptr<std::byte[], void (*)(std::byte*)>;
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
  // Waits until all operations called before are done. An asynchronous failure shows here.
  virtual absl::Status Sync() = 0;
  // Whether all operations called before are done now. For those who must not wait without an end;
  // an asynchronous failure shows here too.
  virtual absl::StatusOr<bool> Idle() { return true; }

  // -- weights ------------------------------------------------------------------------------------

  // Bytes of device memory for a matrix, at least those of its rows.
  virtual size_t WeightBytes(DType dtype, int64_t rows, int64_t cols) const = 0;
  // How many rows WriteWeights takes at once: a multiple of this, but for the last of the matrix.
  virtual int64_t WeightRowGranularity() const = 0;
  // How many threads should read weights side by side to keep WriteWeights busy.
  virtual int WeightReaders() const { return 1; }
  // Rows [row, row + count) of `w`, from host memory in tensor.h's row-major form. `row` is a
  // multiple of the granularity. rows_data may be reused at once.
  virtual absl::Status WriteWeights(const WeightMatrix& w, int64_t row, int64_t count,
                                    const std::byte* rows_data) = 0;
  // Bytes to and from device memory (norm weights and biases are float32 there). Both wait for the
  // device.
  virtual absl::Status WriteBytes(const void* from, size_t bytes, void* to) = 0;
  virtual absl::Status ReadBytes(const void* from, size_t bytes, void* to) = 0;

  // -- activations between host and device --------------------------------------------------------

  // Activation elements as float32 in host memory. Waits for the device.
  virtual absl::Status ReadActivations(const Activation* from, int64_t count, float* to) = 0;
  virtual absl::Status WriteActivations(const float* from, int64_t count, Activation* to) = 0;
  // The elements themselves where they are float32 in host memory (cpu), else null.
  virtual float* HostFloats(Activation* x) = 0;
  // Partial sums: themselves where they are float64 in host memory, and copies where they are not.
  virtual size_t PartialBytes(int64_t count) const = 0;
  virtual double* HostPartials(Partial* x) = 0;
  virtual absl::Status ReadPartials(const Partial* from, int64_t count, double* to) = 0;
  virtual absl::Status WritePartials(const double* from, int64_t count, Partial* to) = 0;
  // Bytes of sums of squares, and the sums themselves where they are float64 in host memory, else
  // null: float32 in the device's.
  virtual size_t SquareSumBytes(int64_t count) const = 0;
  virtual double* HostSquareSums(SquareSum* x) = 0;
  // Float32 values (logits) in host memory, valid until the next call: on cpu they are `from`
  // itself. Waits for the device.
  virtual absl::StatusOr<const float*> ReadFloats(const float* from, int64_t count) = 0;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_DEVICE_MEMORY_H_
