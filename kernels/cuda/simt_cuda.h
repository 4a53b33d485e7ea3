// simt.h on a GPU. Included by simt.h only.
#ifndef TESSERA_KERNELS_CUDA_SIMT_CUDA_H_
#define TESSERA_KERNELS_CUDA_SIMT_CUDA_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>
#include <utility>

#define TESSERA_GLOBAL __global__
#define TESSERA_DEVICE __device__ __forceinline__
#define TESSERA_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define TESSERA_UNROLL _Pragma("unroll")
#define TESSERA_VIEW(pointer, extent) ::tessera::kernels::cuda::MakeView(pointer, static_cast<int64_t>(extent))
#define TESSERA_SHARED(T, name, count)                          \
  __shared__ alignas(16) T name##_storage[count];               \
  const ::tessera::kernels::cuda::Shared<T> name(name##_storage)

namespace tessera::kernels::cuda {

template <typename T>
class View {
 public:
  View() = default;
  __host__ __device__ explicit View(T* data) : data_(data) {}
  // A view to write through is one to read through.
  template <typename U>
    requires(std::is_same_v<U, T> && !std::is_const_v<U>)
  __host__ __device__ operator View<const U>() const {
    return View<const U>(data_);
  }

  TESSERA_DEVICE bool IsNull() const { return data_ == nullptr; }
  TESSERA_DEVICE T Get(int64_t i) const { return data_[i]; }
  TESSERA_DEVICE void Set(int64_t i, std::remove_const_t<T> value) const { data_[i] = value; }
  template <int kWords>
  TESSERA_DEVICE Bits<kWords> GetBits(int64_t i) const {
    return *reinterpret_cast<const Bits<kWords>*>(data_ + i);
  }
  template <int kWords>
  TESSERA_DEVICE Bits<kWords> GetStreamed(int64_t i) const {
    Bits<kWords> bits;
    if constexpr (kWords == 4) {
      asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
          : "=r"(bits.word[0]), "=r"(bits.word[1]), "=r"(bits.word[2]), "=r"(bits.word[3])
          : "l"(data_ + i));
    } else if constexpr (kWords == 2) {
      asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];"
          : "=r"(bits.word[0]), "=r"(bits.word[1])
          : "l"(data_ + i));
    } else {
      asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(bits.word[0]) : "l"(data_ + i));
    }
    return bits;
  }
  template <int kWords>
  TESSERA_DEVICE void SetBits(int64_t i, const Bits<kWords>& bits) const {
    *reinterpret_cast<Bits<kWords>*>(data_ + i) = bits;
  }
  TESSERA_DEVICE T* Address(int64_t i) const { return data_ + i; }

 private:
  T* data_ = nullptr;
};

template <typename T>
__host__ __device__ View<T> MakeView(T* data, int64_t) {
  return View<T>(data);
}

template <typename T>
class Shared {
 public:
  TESSERA_DEVICE explicit Shared(T* data) : data_(data) {}

  TESSERA_DEVICE T Get(int i) const { return data_[i]; }
  TESSERA_DEVICE void Set(int i, T value) const { data_[i] = value; }
  template <int kWords>
  TESSERA_DEVICE Bits<kWords> GetBits(int i) const {
    return *reinterpret_cast<const Bits<kWords>*>(data_ + i);
  }
  template <int kWords>
  TESSERA_DEVICE void SetBits(int i, const Bits<kWords>& bits) const {
    *reinterpret_cast<Bits<kWords>*>(data_ + i) = bits;
  }
  TESSERA_DEVICE T* Pointer(int i) const { return data_ + i; }
  TESSERA_DEVICE uint32_t Address(int i) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(data_ + i));
  }

 private:
  T* data_;
};

extern __shared__ __align__(16) unsigned char tessera_dynamic_shared[];

template <typename T>
TESSERA_DEVICE Shared<T> DynamicShared(int offset, int count) {
  static_cast<void>(count);
  return Shared<T>(reinterpret_cast<T*>(tessera_dynamic_shared + offset));
}

TESSERA_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
TESSERA_DEVICE int Lane() { return static_cast<int>(threadIdx.x % 32); }
TESSERA_DEVICE int WarpIndex() { return static_cast<int>(threadIdx.x / 32); }
TESSERA_DEVICE int BlockX() { return static_cast<int>(blockIdx.x); }
TESSERA_DEVICE int BlockY() { return static_cast<int>(blockIdx.y); }
TESSERA_DEVICE int BlockZ() { return static_cast<int>(blockIdx.z); }
TESSERA_DEVICE int GridX() { return static_cast<int>(gridDim.x); }

TESSERA_DEVICE void SyncThreads() { __syncthreads(); }
TESSERA_DEVICE void SyncWarp() { __syncwarp(); }

template <typename T>
TESSERA_DEVICE T ShuffleXor(T value, int lane_mask) {
  return __shfl_xor_sync(0xffffffffu, value, lane_mask);
}
template <typename T>
TESSERA_DEVICE T Shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

TESSERA_DEVICE void Mma16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

TESSERA_DEVICE void LoadMatrixTransposed(Shared<BFloat16> from, int i, uint32_t (&out)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from.Address(i))
               : "memory");
}

template <typename T>
TESSERA_DEVICE void CpAsync16(Shared<std::remove_const_t<T>> to, int i, View<T> from, int64_t j,
                              bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to.Address(i)), "l"(from.Address(valid ? j : 0)), "r"(bytes)
               : "memory");
}
TESSERA_DEVICE void CpAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroups>
TESSERA_DEVICE void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kGroups) : "memory");
}

TESSERA_DEVICE int32_t AtomicAdd(const Shared<int32_t>& shared, int i, int32_t value) {
  return atomicAdd(shared.Pointer(i), value);
}
TESSERA_DEVICE int LeadingOnes(uint64_t bits) { return __clzll(static_cast<long long>(~bits)); }

TESSERA_DEVICE float Exp2(float x) { return exp2f(x); }
TESSERA_DEVICE float Exp(float x) { return __expf(x); }
TESSERA_DEVICE float Rsqrt(float x) { return rsqrtf(x); }
TESSERA_DEVICE double LogDouble(double x) { return log(x); }
TESSERA_DEVICE double ExpDouble(double x) { return exp(x); }
TESSERA_DEVICE float MulRn(float a, float b) { return __fmul_rn(a, b); }
TESSERA_DEVICE float FmaRn(float a, float b, float c) { return __fmaf_rn(a, b, c); }

TESSERA_DEVICE float FloatOfBits(uint32_t bits) { return __uint_as_float(bits); }
TESSERA_DEVICE uint32_t BitsOfFloat(float value) { return __float_as_uint(value); }
TESSERA_DEVICE uint32_t RoundToBf16x2(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
TESSERA_DEVICE BFloat16 FloatToBf16(float value) {
  return {static_cast<uint16_t>(RoundToBf16x2(value, 0.0f) & 0xffffu)};
}
TESSERA_DEVICE uint32_t SubBf16x2(uint32_t a, uint32_t b) {
  __nv_bfloat162 x, y;
  memcpy(&x, &a, 4), memcpy(&y, &b, 4);
  const __nv_bfloat162 difference = __hsub2(x, y);
  uint32_t bits;
  memcpy(&bits, &difference, 4);
  return bits;
}
TESSERA_DEVICE uint32_t MulBf16x2(uint32_t a, uint32_t b) {
  __nv_bfloat162 x, y;
  memcpy(&x, &a, 4), memcpy(&y, &b, 4);
  const __nv_bfloat162 product = __hmul2(x, y);
  uint32_t bits;
  memcpy(&bits, &product, 4);
  return bits;
}
TESSERA_DEVICE float HalfBitsToFloat(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
TESSERA_DEVICE uint32_t And0Or(uint32_t x, uint32_t mask, uint32_t bits) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(x), "r"(mask), "r"(bits));
  return out;
}

template <typename... Params, typename... Args>
int Launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape, Stream stream,
           Args&&... args) {
  static_cast<void>(name);
  if (shape.shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(shape.x), static_cast<unsigned>(shape.y),
                        static_cast<unsigned>(shape.z));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  return static_cast<int>(
      cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...));
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_SIMT_CUDA_H_
