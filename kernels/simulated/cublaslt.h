// What the stub of cuBLASLt was asked for and did, for tests that ask how it was used. Of this
// process, in order. Threads: any.
#ifndef TESSERA_KERNELS_SIMULATED_CUBLASLT_H_
#define TESSERA_KERNELS_SIMULATED_CUBLASLT_H_

#include <cstdint>
#include <vector>

namespace tessera::gpu_stubs {

// A product's shape: out (rows, n) = w (rows, cols) · x (cols, n).
struct LibraryShape {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t n = 0;
  friend bool operator==(const LibraryShape&, const LibraryShape&) = default;
};

// A question for an algorithm, and the answer.
struct LibraryAnswer {
  LibraryShape shape;
  uint32_t reductions = 0;  // the mask of what was allowed
  int parts = 0;            // that the sum is cut into
};

std::vector<LibraryAnswer> LibraryAnswers();
std::vector<LibraryShape> LibraryProducts();
void ForgetLibraryCalls();

// How many parts the next answers' sums are cut into whatever is allowed; 0: as the stub likes.
void ForceLibraryParts(int parts);

}  // namespace tessera::gpu_stubs

#endif  // TESSERA_KERNELS_SIMULATED_CUBLASLT_H_
