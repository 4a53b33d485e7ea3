// Thousands of sequences, with their chunks and tokens, do not fit into the nearer caches. Whoever
// goes through them asks at each for what it will read or write of those that follow.
//
//   for (int i = 0; i < count; ++i) {
//     if (i + kPrefetchFar < count) Prefetch(things[i + kPrefetchFar]);
#ifndef TESSERA_COORDINATOR_SCHEDULE_PREFETCH_H_
#define TESSERA_COORDINATOR_SCHEDULE_PREFETCH_H_

#include <cstddef>

namespace tessera::coordinator {

inline constexpr int kPrefetchFar = 16;
inline constexpr int kPrefetchNear = 8;  // what an object points to: that one should be here by now

template <typename Object>
inline void Prefetch(const Object& object) {
  const char* bytes = reinterpret_cast<const char*>(&object);
  for (size_t at = 0; at < sizeof(Object); at += 64) __builtin_prefetch(bytes + at);
}

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PREFETCH_H_
