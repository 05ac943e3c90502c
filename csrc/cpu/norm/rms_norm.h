// The norms. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/vec.h"
#include "params/norm.h"

namespace vllm::cpu {
namespace {

// 1 / sqrt(mean + epsilon), of squares that were summed in kUnroll parts.
inline float inverse_rms(const Floats (&squares)[kUnroll], i64 width, float epsilon) {
  const float total = sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
  return 1.0f / square_root(total / static_cast<float>(width) + epsilon);
}

template <typename T>
inline void rms_norm(const RmsNormParams& p, i64 begin, i64 end) {
  const T* weight = static_cast<const T*>(p.weight);
  for (i64 row = begin; row < end; ++row) {
    const T* input = static_cast<const T*>(p.input) + row * p.input_stride;
    T* out = static_cast<T*>(p.out) + row * p.out_stride;

    Floats squares[kUnroll] = {};
    const T* normed = input;
    if (p.residual) {
      T* residual = static_cast<T*>(p.residual) + row * p.residual_stride;
      for_lanes(p.width, [&](i64 i, auto n, int slot) {
        const Floats x = round_to<T>(load(input + i, n) + load(residual + i, n));
        store(residual + i, x, n);
        squares[slot] = multiply_add(x, x, squares[slot]);
      });
      normed = residual;
    } else {
      for_lanes(p.width, [&](i64 i, auto n, int slot) {
        const Floats x = load(input + i, n);
        squares[slot] = multiply_add(x, x, squares[slot]);
      });
    }

    const float scale = inverse_rms(squares, p.width, p.epsilon);
    for_lanes(p.width, [&](i64 i, auto n, int) {
      store(out + i, load(normed + i, n) * scale * load(weight + i, n), n);
    });
  }
}

}  // namespace
}  // namespace vllm::cpu
