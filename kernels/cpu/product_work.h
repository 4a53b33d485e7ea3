// Products of one input with one or more packed matrices: the input is prepared once in each form
// that the matrices' types want.
//
// Where tokens are many, a thread takes some, prepares them, and multiplies them by all rows: what
// it prepared is still near, and nobody waits in between. Where they are few, the rows of all
// matrices are dealt out as if they were one, so that the threads read the weights together once.
//
// Borrows ops and workers. Threads: the device's caller.
//
//   products_.Begin(x, n);
//   products_.Add({.w = wq, .out = q});
//   products_.Run();
#ifndef TESSERA_KERNELS_CPU_PRODUCT_WORK_H_
#define TESSERA_KERNELS_CPU_PRODUCT_WORK_H_

#include <cstdint>
#include <vector>

#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/workers.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu {

class ProductWork {
 public:
  ProductWork(const OpsTable* ops, Workers* workers) : ops_(*ops), workers_(*workers) {}

  // What follows multiplies the n tokens of x, (n, cols of every matrix).
  void Begin(const float* x, int64_t n);

  struct Output {
    WeightMatrix w;
    const float* bias = nullptr;  // (w.rows) or null
    float* out = nullptr;         // (n, w.rows)
    // Instead of out: float64 sums of segments of so many columns, 64 or 32.
    double* partials = nullptr;  // (n, w.rows)
    int segment = 0;
  };
  void Add(const Output& output);
  void Run();

  // Every product added up in float64, for cuts that fall anywhere. Slow. out: (n, w.rows).
  void MultiplyInDoubles(const WeightMatrix& w, const float* x, int64_t n, double* out);

 private:
  uint8_t* RoomFor(InputForm form, int64_t cols);
  void RunByTokens();
  void Prepare();
  void RunByRows(bool parallel);
  void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end, int thread);

  const OpsTable& ops_;
  Workers& workers_;
  const float* x_ = nullptr;
  int64_t n_ = 0;
  std::vector<ProductArgs> products_;
  uint8_t* prepared_[kNumInputForms] = {};  // room for x in the forms that the products want
  Scratch inputs_[kNumInputForms];
};

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_PRODUCT_WORK_H_
