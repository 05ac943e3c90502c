// Matrix products of few rows. Not tuned, because models use torch's products (oneDNN) on the CPU.
// Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/dot.h"
#include "cpu/common/exp.h"
#include "cpu/common/vec.h"
#include "cpu/norm/rms_norm.h"
#include "params/gemm.h"

namespace vllm::cpu {
namespace {

// Outputs [begin, end) of all rows.
template <typename T>
inline void few_rows_linear(const FewRowsParams& p, i64 begin, i64 end) {
  const T* norm_weight = static_cast<const T*>(p.norm_weight);
  const T* bias = static_cast<const T*>(p.bias);
  for (i64 row = 0; row < p.rows; ++row) {
    const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
    Floats squares[kUnroll] = {};
    for_lanes(norm_weight ? p.inputs : 0, [&](i64 i, auto n, int slot) {
      const Floats value = load(x + i, n);
      squares[slot] = multiply_add(value, value, squares[slot]);
    });
    const float scale = norm_weight ? inverse_rms(squares, p.inputs, p.epsilon) : 1.0f;

    const auto normed_dot = [&](const T* weight) {
      Floats sums[kUnroll] = {};
      for_lanes(p.inputs, [&](i64 i, auto n, int slot) {
        const Floats value = round_to<T>(load(x + i, n) * scale * load(norm_weight + i, n));
        sums[slot] = multiply_add(value, load(weight + i, n), sums[slot]);
      });
      return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    };
    const auto product = [&](i64 weight_row) {
      const T* weight = static_cast<const T*>(p.weight) + weight_row * p.weight_stride;
      const float total = norm_weight ? normed_dot(weight) : dot(x, weight, p.inputs);
      return bias ? total + load(bias + weight_row, Some{1})[0] : total;
    };
    for (i64 i = begin; i < end; ++i) {
      float value = product(i);
      if (p.gated) value = value / (1.0f + exp(broadcast(-value))[0]) * product(p.outputs + i);
      if (p.residual) {
        const T* residual = static_cast<const T*>(p.residual) + row * p.residual_stride;
        value += load(residual + i, Some{1})[0];
      }
      store(static_cast<T*>(p.out) + row * p.out_stride + i, broadcast(value), Some{1});
    }
  }
}

}  // namespace
}  // namespace vllm::cpu
