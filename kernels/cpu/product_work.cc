#include "kernels/cpu/product_work.h"

#include <algorithm>
#include <cassert>
#include <iterator>

#include "kernels/cpu/packed_weights.h"

namespace tessera::kernels::cpu {
namespace {

// As many tokens as one walk over the weights serves: up to here a product waits for memory, and
// each thread reads one piece of it.
constexpr int64_t kFewTokens = kTokenTile;

// Fewer tokens are not worth a walk over all weights.
constexpr int64_t kTokensOfWalk = 3 * kTokenTile;

int64_t GroupsOf(const ProductArgs& args) { return (args.rows + kGroupRows - 1) / kGroupRows; }

}  // namespace

void ProductWork::Begin(const float* x, int64_t n) {
  x_ = x;
  n_ = n;
  products_.clear();
  std::fill(std::begin(prepared_), std::end(prepared_), nullptr);
}

void ProductWork::Add(const Output& output) {
  const WeightMatrix& w = output.w;
  assert(w.cols % BlockElements(w.dtype) == 0);
  const InputForm form = ops_.input_form(w.dtype);
  products_.push_back({.w = reinterpret_cast<const uint8_t*>(w.data),
                       .dtype = w.dtype,
                       .rows = w.rows,
                       .cols = w.cols,
                       .form = form,
                       .input = RoomFor(form, w.cols),
                       .bias = output.bias,
                       .n = n_,
                       .out = output.out,
                       .partials = output.partials,
                       .segment_blocks = output.segment / 32});
}

uint8_t* ProductWork::RoomFor(InputForm form, int64_t cols) {
  uint8_t*& room = prepared_[static_cast<int>(form)];
  if (room != nullptr) return room;
  room = inputs_[static_cast<int>(form)].Get<uint8_t>(InputBytes(form, cols, n_));
  return room;
}

void ProductWork::Run() {
  if (products_.empty()) return;
  int64_t macs = 0;
  for (const ProductArgs& args : products_) macs += args.rows * args.cols * n_;
  const bool parallel = macs >= kMinParallelMacs;
  if (parallel && n_ >= kTokensOfWalk * Workers::kPartsPerThread * workers_.threads()) {
    return RunByTokens();
  }
  Prepare();
  RunByRows(parallel);
}

void ProductWork::RunByTokens() {
  workers_.Split(n_, kTokenTile, true, [&](int64_t begin, int64_t end, int thread) {
    for (int form = 0; form < kNumInputForms; ++form) {
      if (prepared_[form] == nullptr) continue;
      const int64_t cols = products_.front().cols;
      ops_.prepare_input(static_cast<InputForm>(form), x_, cols, n_,
                         {begin, end, 0, BlocksOf(cols)}, prepared_[form]);
    }
    for (ProductArgs args : products_) {
      args.n = end - begin;
      args.input += InputBytes(args.form, args.cols, begin);
      if (args.out != nullptr) args.out += begin * args.rows;
      if (args.partials != nullptr) args.partials += begin * args.rows;
      Multiply(args, 0, GroupsOf(args), thread);
    }
  });
}

void ProductWork::Prepare() {
  const int64_t cols = products_.front().cols;
  const int64_t blocks = BlocksOf(cols);
  const bool parallel = n_ * cols >= kMinParallelElements;
  for (int i = 0; i < kNumInputForms; ++i) {
    uint8_t* room = prepared_[i];
    if (room == nullptr) continue;
    const auto form = static_cast<InputForm>(i);
    if (n_ > kTokenTile) {
      workers_.Split(n_, kTokenTile, parallel, [&](int64_t begin, int64_t end, int) {
        ops_.prepare_input(form, x_, cols, n_, {begin, end, 0, blocks}, room);
      });
    } else {
      workers_.Split(blocks, 1, parallel, /*parts_per_thread=*/1,
                     [&](int64_t begin, int64_t end, int) {
                       ops_.prepare_input(form, x_, cols, n_, {0, n_, begin, end}, room);
                     });
    }
  }
}

void ProductWork::RunByRows(bool parallel) {
  int64_t groups = 0;
  for (const ProductArgs& args : products_) groups += GroupsOf(args);
  const int parts_per_thread = n_ <= kFewTokens ? 1 : Workers::kPartsPerThread;
  workers_.Split(groups, 1, parallel, parts_per_thread,
                 [&](int64_t begin, int64_t end, int thread) {
                   for (const ProductArgs& args : products_) {
                     const int64_t own = GroupsOf(args);
                     const int64_t first = std::max<int64_t>(begin, 0);
                     const int64_t last = std::min(end, own);
                     if (first < last) Multiply(args, first, last, thread);
                     begin -= own;
                     end -= own;
                   }
                 });
}

void ProductWork::Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                           int thread) {
  uint8_t* scratch = workers_.scratch(thread).Get<uint8_t>(ops_.multiply_scratch(args));
  ops_.multiply(args, group_begin, group_end, scratch);
}

void ProductWork::MultiplyInDoubles(const WeightMatrix& w, const float* x, int64_t n, double* out) {
  workers_.Split(w.rows, 1, w.rows * w.cols * n >= kMinParallelMacs,
                 [&](int64_t begin, int64_t end, int thread) {
                   float* row = workers_.scratch(thread).Get<float>(w.cols);
                   for (int64_t r = begin; r < end; ++r) {
                     UnpackRow(w.dtype, w.data, w.cols, r, row);
                     for (int64_t t = 0; t < n; ++t) {
                       double sum = 0;
                       for (int64_t c = 0; c < w.cols; ++c) {
                         sum += static_cast<double>(row[c]) * x[t * w.cols + c];
                       }
                       out[t * w.rows + r] = sum;
                     }
                   }
                 });
}

}  // namespace tessera::kernels::cpu
