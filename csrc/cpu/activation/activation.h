// The activations. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/exp.h"
#include "cpu/common/vec.h"
#include "params/activation.h"

namespace vllm::cpu {
namespace {

template <typename T>
inline void silu_and_mul(const SiluAndMulParams& p, i64 begin, i64 end) {
  for (i64 row = begin; row < end; ++row) {
    const T* gate = static_cast<const T*>(p.input) + row * p.input_stride;
    const T* up = gate + p.width;
    T* out = static_cast<T*>(p.out) + row * p.out_stride;
    for_lanes(p.width, [&](i64 i, auto n, int) {
      const Floats x = load(gate + i, n);
      store(out + i, x / (1.0f + exp(-x)) * load(up + i, n), n);
    });
  }
}

}  // namespace
}  // namespace vllm::cpu
