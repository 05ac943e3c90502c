// The kernels of the instruction set that this file is compiled for, as one constant.
//
// x86_64/isa_baseline.cpp, isa_avx2.cpp and isa_avx512.cpp compile the same headers with different
// -m flags, aarch64/isa_neon.cpp and isa_bf16.cpp those for Arm. Were any function of theirs
// visible outside (an inline or template function of a named namespace, one of std's included), the
// linker would keep one copy of it for all of them, and the baseline might run AVX-512 code. So
// everything these headers define is in an anonymous namespace, they use no inline function of the
// standard library, and each object defines exactly one global symbol, which
// tests/cpu/test_objects.py checks.
#pragma once

#include "cpu/activation/activation.h"
#include "cpu/attention/attention.h"
#include "cpu/cache/reshape_and_cache.h"
#include "cpu/embedding/embedding.h"
#include "cpu/gemm/few_rows.h"
#include "cpu/kernels.h"
#include "cpu/norm/rms_norm.h"
#include "cpu/rotary/rotary.h"
#include "cpu/rotary/rotary_and_cache.h"
#include "cpu/sampling/masks.h"
#include "cpu/sampling/penalties.h"
#include "cpu/sampling/sampling.h"

namespace vllm::cpu {
namespace {

// A constant: code that ran at load time would use instructions that the processor may not have.
constexpr Kernels kernels_named(const char* isa) {
  return {isa,
          {rms_norm<float>, rms_norm<Half>, rms_norm<BFloat16>},
          {silu_and_mul<float>, silu_and_mul<Half>, silu_and_mul<BFloat16>},
          {few_rows_linear<float>, few_rows_linear<Half>, few_rows_linear<BFloat16>},
          {rotary_embedding<float>, rotary_embedding<Half>, rotary_embedding<BFloat16>},
          {rotary_and_cache<float>, rotary_and_cache<Half>, rotary_and_cache<BFloat16>},
          {reshape_and_cache<float>, reshape_and_cache<Half>, reshape_and_cache<BFloat16>},
          {embedding<float>, embedding<Half>, embedding<BFloat16>},
          {paged_attention<float>, paged_attention<Half>, paged_attention<BFloat16>},
          count_tokens,
          penalize,
          bias_logits,
          {mask_logits<float>, mask_logits<Half>, mask_logits<BFloat16>},
          {sample<float>, sample<Half>, sample<BFloat16>}};
}

}  // namespace
}  // namespace vllm::cpu
