// How fast this machine's threads read memory: what decoding is held against.
//
//   ReadMeter meter(/*bytes=*/97 << 20, /*threads=*/2);
//   double bytes_per_second = meter.Measure();
#ifndef TESSERA_BENCHMARKS_ENGINE_READ_SPEED_H_
#define TESSERA_BENCHMARKS_ENGINE_READ_SPEED_H_

#include <cstddef>

namespace tessera::worker {

class ReadMeter {
 public:
  // Memory of so many bytes (in huge pages where the system grants them), written once.
  ReadMeter(size_t bytes, int threads);
  ~ReadMeter();
  ReadMeter(const ReadMeter&) = delete;
  ReadMeter& operator=(const ReadMeter&) = delete;

  // Whether the memory could be had. Without it nothing is measured.
  bool ready() const { return memory_ != nullptr; }
  // All threads together read it, each its part, a few times: bytes per second of the median, from
  // wherever the caches then keep that many.
  double Measure();

 private:
  double MeasureOnce();

  const size_t bytes_;
  const int threads_;
  const size_t mapped_;
  void* memory_ = nullptr;
};

}  // namespace tessera::worker

#endif  // TESSERA_BENCHMARKS_ENGINE_READ_SPEED_H_
