// CPU time and memory of this process, and CPU time of the calling thread.
#ifndef TESSERA_BENCHMARKS_SERVING_SCALE_METERS_H_
#define TESSERA_BENCHMARKS_SERVING_SCALE_METERS_H_

#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

namespace tessera::benchmarks {

inline double ClockSeconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline double ThreadCpuSeconds() { return ClockSeconds(CLOCK_THREAD_CPUTIME_ID); }
inline double ProcessCpuSeconds() { return ClockSeconds(CLOCK_PROCESS_CPUTIME_ID); }
inline double WallSeconds() { return ClockSeconds(CLOCK_MONOTONIC); }

// 0 when /proc does not say.
inline int64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  long long total = 0;
  long long resident = 0;
  const int read = std::fscanf(file, "%lld %lld", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SCALE_METERS_H_
