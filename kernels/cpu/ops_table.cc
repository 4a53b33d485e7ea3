#include "kernels/cpu/isa_ops.h"

#define TESSERA_QUOTE_INNER(x) #x
#define TESSERA_QUOTE(x) TESSERA_QUOTE_INNER(x)

namespace tessera::kernels::cpu::TESSERA_ISA {

extern const OpsTable kOps;  // tests compile sets that ops.h does not know

// Constant-initialized: nothing of this instruction set runs at start-up.
const OpsTable kOps = {
    .name = TESSERA_QUOTE(TESSERA_ISA),
    .rms_norm = RmsNorm,
    .add_normed = AddNormed,
    .sum_squares = SumSquares,
    .normalize_by_sums = NormalizeBySums,
    .input_form = InputFormOf,
    .prepare_input = PrepareInput,
    .multiply = Multiply,
    .multiply_scratch = MultiplyScratch,
    .rope = Rope,
    .attention = Attention,
    .attention_merge = AttentionMerge,
    .attention_finish = AttentionFinish,
    .attention_state = AttentionState,
    .attention_scratch = AttentionScratch,
    .silu_mul = SiluMul,
    .add = Add,
};

}  // namespace tessera::kernels::cpu::TESSERA_ISA
