// simt.h on the CPU, over the executor. Included by simt.h only.
#ifndef TESSERA_KERNELS_SIMULATED_SIMT_SIMULATED_H_
#define TESSERA_KERNELS_SIMULATED_SIMT_SIMULATED_H_

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/half.h"
#include "kernels/simulated/executor.h"

#define TESSERA_GLOBAL
#define TESSERA_DEVICE inline
#define TESSERA_LAUNCH_BOUNDS(threads, blocks)
#define TESSERA_UNROLL
#define TESSERA_VIEW(pointer, extent) \
  ::tessera::kernels::cuda::MakeView(pointer, static_cast<int64_t>(extent), #pointer)
#define TESSERA_SHARED(T, name, count)               \
  static char name##_key;                            \
  const ::tessera::kernels::cuda::Shared<T> name(    \
      ::tessera::kernels::cuda::simt::StaticSharedPlace(&name##_key, sizeof(T) * (count)), \
      count, #name)

namespace tessera::kernels::cuda {

// What views of global and shared memory check alike.
template <typename T>
void CheckAccess(const T* data, const char* name, int64_t i, int64_t elements, int64_t extent,
                 int64_t align) {
  if (i < 0 || i + elements > extent) [[unlikely]] simt::FailBounds(name, i, elements, extent);
  if (reinterpret_cast<uintptr_t>(data + i) % align != 0) [[unlikely]] {
    simt::FailAlignment(name, i, align);
  }
}

template <int kWords, typename T>
constexpr int64_t ElementsOf() {
  static_assert(4 * kWords % sizeof(T) == 0);
  return 4 * kWords / static_cast<int64_t>(sizeof(T));
}

template <typename T>
class View {
 public:
  View() = default;
  View(T* data, int64_t extent, const char* name)
      : data_(data), extent_(data ? extent : 0), name_(name) {}
  // A view to write through is one to read through.
  operator View<const T>() const
    requires(!std::is_const_v<T>)
  {
    return View<const T>(data_, extent_, name_);
  }

  bool IsNull() const { return data_ == nullptr; }
  T Get(int64_t i) const {
    Check(simt::AccessKind::kRead, i, 1, alignof(T));
    return data_[i];
  }
  void Set(int64_t i, std::remove_const_t<T> value) const {
    Check(simt::AccessKind::kWrite, i, 1, alignof(T));
    data_[i] = value;
  }
  template <int kWords>
  Bits<kWords> GetBits(int64_t i) const {
    Check(simt::AccessKind::kRead, i, ElementsOf<kWords, T>(), 4 * kWords);
    Bits<kWords> bits;
    std::memcpy(&bits, data_ + i, sizeof(bits));
    return bits;
  }
  template <int kWords>
  Bits<kWords> GetStreamed(int64_t i) const {
    return GetBits<kWords>(i);
  }
  template <int kWords>
  void SetBits(int64_t i, const Bits<kWords>& bits) const {
    Check(simt::AccessKind::kWrite, i, ElementsOf<kWords, T>(), 4 * kWords);
    std::memcpy(data_ + i, &bits, sizeof(bits));
  }
  // 16 bytes for an asynchronous copy.
  const void* CopySource(int64_t j) const {
    Check(simt::AccessKind::kRead, j, ElementsOf<4, T>(), 16);
    return data_ + j;
  }

 private:
  void Check(simt::AccessKind kind, int64_t i, int64_t elements, int64_t align) const {
    CheckAccess(data_, name_, i, elements, extent_, align);
    simt::CheckGlobal(kind, data_ + i, elements * static_cast<int64_t>(sizeof(T)), name_, i);
  }

  T* data_ = nullptr;
  int64_t extent_ = 0;
  const char* name_ = "";
};

template <typename T>
View<T> MakeView(T* data, int64_t extent, const char* name) {
  return View<T>(data, extent, name);
}

template <typename T>
class Shared {
 public:
  Shared(simt::SharedPlace place, int64_t extent, const char* name)
      : place_(place), extent_(extent), name_(name) {}

  T Get(int i) const {
    Check(simt::AccessKind::kRead, i, 1, alignof(T));
    return data()[i];
  }
  void Set(int i, T value) const {
    Check(simt::AccessKind::kWrite, i, 1, alignof(T));
    data()[i] = value;
  }
  template <int kWords>
  Bits<kWords> GetBits(int i) const {
    Check(simt::AccessKind::kRead, i, ElementsOf<kWords, T>(), 4 * kWords);
    Bits<kWords> bits;
    std::memcpy(&bits, data() + i, sizeof(bits));
    return bits;
  }
  template <int kWords>
  void SetBits(int i, const Bits<kWords>& bits) const {
    Check(simt::AccessKind::kWrite, i, ElementsOf<kWords, T>(), 4 * kWords);
    std::memcpy(data() + i, &bits, sizeof(bits));
  }
  T AtomicAdd(int i, T value) const {
    Check(simt::AccessKind::kAtomic, i, 1, alignof(T));
    return std::exchange(data()[i], data()[i] + value);
  }
  void CopyTo(int i, const void* from) const {
    CheckAccess(data(), name_, i, ElementsOf<4, T>(), extent_, 16);
    const int64_t offset = i * static_cast<int64_t>(sizeof(T));
    simt::AsyncCopy({place_.data + offset, place_.offset + offset}, from, name_, i);
  }

 private:
  T* data() const { return reinterpret_cast<T*>(place_.data); }
  void Check(simt::AccessKind kind, int64_t i, int64_t elements, int64_t align) const {
    CheckAccess(data(), name_, i, elements, extent_, align);
    simt::CheckShared(kind, place_.offset + i * static_cast<int64_t>(sizeof(T)),
                      elements * static_cast<int64_t>(sizeof(T)), name_, i);
  }

  simt::SharedPlace place_;
  int64_t extent_;
  const char* name_;
};

template <typename T>
Shared<T> DynamicShared(int offset, int count) {
  return Shared<T>(simt::DynamicSharedPlace(offset, count * static_cast<int64_t>(sizeof(T))),
                   count, "dynamic shared memory");
}

inline int ThreadIndex() { return simt::Current().thread; }
inline int Lane() { return simt::Current().thread % 32; }
inline int WarpIndex() { return simt::Current().thread / 32; }
inline int BlockX() { return static_cast<int>(simt::Current().block[0]); }
inline int BlockY() { return static_cast<int>(simt::Current().block[1]); }
inline int BlockZ() { return static_cast<int>(simt::Current().block[2]); }
inline int GridX() { return static_cast<int>(simt::Current().grid_x); }

// The default arguments are the caller's place.
inline void SyncThreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::Barrier(file, line);
}
inline void SyncWarp(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::WarpBarrier(file, line);
}

template <typename T>
T ShuffleXor(T value, int lane_mask, const char* file = __builtin_FILE(),
             int line = __builtin_LINE()) {
  struct Slot {
    T in;
    T out;
    int lane_mask;
  } slot{value, {}, lane_mask};
  simt::WarpCollective("ShuffleXor", file, line, &slot, [](void* const* slots) {
    for (int lane = 0; lane < 32; ++lane) {
      auto* mine = static_cast<Slot*>(slots[lane]);
      mine->out = static_cast<Slot*>(slots[(lane ^ mine->lane_mask) % 32])->in;
    }
  });
  return slot.out;
}

template <typename T>
T Shuffle(T value, int lane, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  struct Slot {
    T in;
    T out;
    int from;
  } slot{value, {}, lane};
  simt::WarpCollective("Shuffle", file, line, &slot, [](void* const* slots) {
    for (int l = 0; l < 32; ++l) {
      auto* mine = static_cast<Slot*>(slots[l]);
      mine->out = static_cast<Slot*>(slots[mine->from % 32])->in;
    }
  });
  return slot.out;
}

inline float FloatOfBits(uint32_t bits) { return FloatFromBits(bits); }
inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline BFloat16 FloatToBf16(float value) {
  const uint32_t bits = BitsOfFloat(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
inline uint32_t RoundToBf16x2(float low, float high) {
  return FloatToBf16(low).bits | static_cast<uint32_t>(FloatToBf16(high).bits) << 16;
}
inline uint32_t SubBf16x2(uint32_t a, uint32_t b) {
  return RoundToBf16x2(FloatFromBits(a << 16) - FloatFromBits(b << 16),
                       FloatFromBits(a & 0xffff0000u) - FloatFromBits(b & 0xffff0000u));
}
inline uint32_t MulBf16x2(uint32_t a, uint32_t b) {
  return RoundToBf16x2(FloatFromBits(a << 16) * FloatFromBits(b << 16),
                       FloatFromBits(a & 0xffff0000u) * FloatFromBits(b & 0xffff0000u));
}
inline float HalfBitsToFloat(uint16_t bits) { return HalfToFloat(bits); }
inline uint32_t And0Or(uint32_t x, uint32_t mask, uint32_t bits) { return (x & mask) | bits; }

// Fragments as the PTX manual lays m16n8k16 out; products summed in the order of k.
void Mma16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
              const char* file = __builtin_FILE(), int line = __builtin_LINE());
void LoadMatrixTransposed(const Shared<BFloat16>& from, int i, uint32_t (&out)[4],
                          const char* file = __builtin_FILE(), int line = __builtin_LINE());

template <typename T>
void CpAsync16(Shared<std::remove_const_t<T>> to, int i, View<T> from, int64_t j, bool valid) {
  to.CopyTo(i, valid ? from.CopySource(j) : nullptr);
}
inline void CpAsyncCommit() { simt::AsyncCommit(); }
template <int kGroups>
void CpAsyncWait() {
  simt::AsyncWait(kGroups);
}

inline int32_t AtomicAdd(const Shared<int32_t>& shared, int i, int32_t value) {
  return shared.AtomicAdd(i, value);
}
inline int LeadingOnes(uint64_t bits) { return std::countl_one(bits); }

inline float Exp2(float x) { return std::exp2(x); }
inline float Exp(float x) { return std::exp(x); }
inline float Rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double LogDouble(double x) { return std::log(x); }
inline double ExpDouble(double x) { return std::exp(x); }
inline float MulRn(float a, float b) { return a * b; }
inline float FmaRn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

template <typename... Params, typename... Args>
int Launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape, Stream stream,
           Args&&... args) {
  simt::Launched launched;
  launched.name = name;
  launched.grid[0] = shape.x, launched.grid[1] = shape.y, launched.grid[2] = shape.z;
  launched.threads = shape.threads;
  launched.shared_bytes = shape.shared_bytes;
  launched.thread_body = [kernel, ... values = static_cast<Params>(std::forward<Args>(args))] {
    kernel(values...);
  };
  return simt::Submit(stream, std::move(launched));
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_SIMULATED_SIMT_SIMULATED_H_
