// The CPU kernels, compiled once per instruction set and chosen at run time. Callers have checked
// shapes, dtypes and bounds: nothing here fails, except for a wrong value of VLLM_CPU_ISA or
// VLLM_CPU_THREADS.
#pragma once

#include "params/activation.h"
#include "params/attention.h"
#include "params/cache.h"
#include "params/embedding.h"
#include "params/gemm.h"
#include "params/norm.h"
#include "params/rotary.h"
#include "params/sampling.h"
#include "runtime/tensor.h"

namespace vllm::cpu {

// Processes items [begin, end) of its op: rows for the norms and the activation, tokens for the
// rotary embedding, the cache writes and the embedding, outputs for the product, tokens * kv_heads
// for attention, lists for counting tokens, changes for biases, masks, rows for penalties and
// sampling.
template <typename Params>
using Kernel = void (*)(const Params& params, i64 begin, i64 end);

// One set of kernels per instruction set; each array is indexed by `float_index(dtype)`.
struct Kernels {
  const char* isa;  // "baseline", "avx2" or "avx512"; on Arm "neon" or "bf16"
  Kernel<RmsNormParams> rms_norm[kFloatTypes];
  Kernel<SiluAndMulParams> silu_and_mul[kFloatTypes];
  Kernel<FewRowsParams> few_rows_linear[kFloatTypes];
  Kernel<RotaryEmbeddingParams> rotary_embedding[kFloatTypes];
  Kernel<RotaryEmbeddingParams> rotary_and_cache[kFloatTypes];
  Kernel<ReshapeAndCacheParams> reshape_and_cache[kFloatTypes];
  Kernel<EmbeddingParams> embedding[kFloatTypes];
  Kernel<PagedAttentionParams> paged_attention[kFloatTypes];
  Kernel<CountTokensParams> count_tokens;  // of float32 logits, as all that changes them
  Kernel<PenalizeParams> penalize;
  Kernel<BiasLogitsParams> bias_logits;
  Kernel<MaskLogitsParams> mask_logits[kFloatTypes];
  Kernel<SampleParams> sample[kFloatTypes];
};

// The largest head of paged_attention and rotary_and_cache.
constexpr i64 kMaxHeadSize = 256;

// The best set that this processor and its operating system can run; VLLM_CPU_ISA selects a lesser
// one. Throws vllm::Error for a name that is unknown or that this machine cannot run.
const Kernels& kernels();

// Runs kernel(params, begin, end) over [0, items) on the threads of this process. `bytes`: what the
// whole op reads and writes; small work stays on the calling thread.
template <typename Params>
void run(Kernel<Params> kernel, const Params& params, i64 items, i64 bytes);

// Threads that `run` may use: VLLM_CPU_THREADS, or the processors this process may run on.
// Throws vllm::Error for a value that is not a number of threads.
int num_threads();

}  // namespace vllm::cpu

#include "cpu/run.h"
