#ifndef TESSERA_BENCHMARKS_KERNELS_ATTENTION_BENCH_H_
#define TESSERA_BENCHMARKS_KERNELS_ATTENTION_BENCH_H_

namespace tessera::kernels {

// Attention of SmolLM2-135M (9 query heads over 3 KV heads of 64, 30 layers), of each instruction
// set and type that keys and values are kept as: AttentionPrefill, all tokens of a prompt, and
// AttentionDecode, one token behind a long context. `threads` is read when they run.
//
//   GOP/s, of_peak     4 * head_dim per second, query head and position attended to, and their
//   ratio
//                      to the dot products of vectors that suit the type
//   GB/s               keys and values per second, each layer's counted once
void RegisterAttention(const int* threads);

}  // namespace tessera::kernels

#endif  // TESSERA_BENCHMARKS_KERNELS_ATTENTION_BENCH_H_
