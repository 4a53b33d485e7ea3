#include "kernels/tensor.h"

#include <cstdio>
#include <cstdlib>

namespace tessera::kernels {
namespace {

struct Layout {
  int elements;
  size_t bytes;
  const char* name;
};

// In the order of DType.
constexpr Layout kLayouts[kNumDTypes] = {
    {1, 4, "F32"},      {1, 2, "F16"},      {1, 2, "BF16"},     {32, 34, "Q8_0"},
    {32, 18, "Q4_0"},   {32, 20, "Q4_1"},   {32, 22, "Q5_0"},   {32, 24, "Q5_1"},
    {32, 22, "Q4_K32"}, {32, 26, "Q5_K32"}, {32, 28, "Q6_K32"}, {1, 1, "F8_E4M3"},
};

const Layout& LayoutOf(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  if (index >= kNumDTypes) {
    std::fprintf(stderr, "tensor.cc: no such DType: %zu, expected below %d\n", index, kNumDTypes);
    std::abort();
  }
  return kLayouts[index];
}

}  // namespace

int BlockElements(DType dtype) { return LayoutOf(dtype).elements; }

size_t BlockBytes(DType dtype) { return LayoutOf(dtype).bytes; }

size_t RowBytes(DType dtype, int64_t cols) {
  const Layout& layout = LayoutOf(dtype);
  return RowHeaderBytes(dtype) + static_cast<size_t>(cols) / layout.elements * layout.bytes;
}

absl::string_view DTypeName(DType dtype) { return LayoutOf(dtype).name; }

}  // namespace tessera::kernels
