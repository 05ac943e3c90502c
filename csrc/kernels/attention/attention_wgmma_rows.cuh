// The softmax of the wgmma prefill kernel: a lane's part of two query rows.
#pragma once

#include "kernels/attention/attention_wgmma_tile.cuh"
#include "kernels/attention/attention_write.cuh"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

// Volatile, so that the compiler does not move it before a wgmma_wait.
__device__ inline float exp2_in_order(float x) {
  float result;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// A scheduling fence: code after it that uses a, b or c stays behind the code before it. ptxas
// would move a wait for products ahead of arithmetic that should overlap with them, but it moves
// nothing across a branch that might have changed an operand. `zero` is 0, which the compiler does
// not know.
__device__ __forceinline__ void keep_behind(int zero, float& a, float& b, float& c) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.s32 p, %3, 0;\n@p bra.uni DONE;\n"
      "AGAIN:\nld.volatile.shared.f32 %0, [%3];\nld.volatile.shared.f32 %1, [%3];\n"
      "ld.volatile.shared.f32 %2, [%3];\nsetp.ne.f32 p, %0, %1;\n@p bra.uni AGAIN;\nDONE:\n}\n"
      : "+f"(a), "+f"(b), "+f"(c)
      : "r"(zero)
      : "memory");
}

// The sum of weights above which they are rescaled; far below the largest number of T.
template <typename T>
constexpr float kMuchOf = 1048576.0f;
template <>
constexpr float kMuchOf<Half> = 16384.0f;

// A lane holds two of its warp's 16 rows, row 0 (lane / 4) and row 1 (lane / 4 + 8), and of each of
// them columns 8 i + 2 (lane % 4) and the next one, in elements 4 i + 2 row and 4 i + 2 row + 1.
template <typename T, int kHead>
struct WgmmaSoftmax {
  static constexpr int kKeys = wgmma_keys(kHead);
  static constexpr float kMuch = kMuchOf<T>;

  float scores[kKeys / 2];      // of the tile; then weights
  unsigned weights[kKeys / 4];  // as T, for the products with values
  float out[kHead / 2];
  float base[2];  // subtracted from scores, in units of log(2)
  float sum[2];   // of the weights in this lane's columns

  __device__ __forceinline__ void clear() {
    base[0] = base[1] = lowest_score();
    sum[0] = sum[1] = 0.0f;
#pragma unroll
    for (int i = 0; i < kHead / 2; ++i) out[i] = 0.0f;
  }

  template <int kRow>
  __device__ __forceinline__ void round_row() {
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
      weights[2 * i + kRow] =
          from_floats<T>(scores[4 * i + 2 * kRow], scores[4 * i + 2 * kRow + 1]);
    }
  }
  __device__ __forceinline__ void round() {
    round_row<0>();
    round_row<1>();
  }

  template <int kRow>
  __device__ __forceinline__ float row_sum() const {
    float even = scores[2 * kRow], odd = scores[2 * kRow + 1];
#pragma unroll
    for (int i = 1; i < kKeys / 8; ++i) {
      even += scores[4 * i + 2 * kRow];
      odd += scores[4 * i + 2 * kRow + 1];
    }
    return even + odd;
  }
  template <int kRow>
  __device__ __forceinline__ float row_max() const {
    float even = scores[2 * kRow], odd = scores[2 * kRow + 1];
#pragma unroll
    for (int i = 1; i < kKeys / 8; ++i) {
      even = fmaxf(even, scores[4 * i + 2 * kRow]);
      odd = fmaxf(odd, scores[4 * i + 2 * kRow + 1]);
    }
    return quad_max(fmaxf(even, odd));
  }
  template <int kRow>
  __device__ __forceinline__ void scale_out(float factor) {
#pragma unroll
    for (int i = 0; i < kHead / 8; ++i) {
      out[4 * i + 2 * kRow] *= factor;
      out[4 * i + 2 * kRow + 1] *= factor;
    }
  }

  // Applies the soft cap to products: the results are scores in units of the cap.
  __device__ __forceinline__ void cap(const Scoring& scoring) {
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) most = fmaxf(most, fabsf(scores[i]));
    const TanhOfSmall tanh_of_small(scoring.share);
    if (__all_sync(kFullWarp, most <= tanh_of_small.greatest)) {
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i) scores[i] = tanh_of_small(scores[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i) scores[i] = scoring.tanh_of(scores[i]);
    }
  }

  // Masks the columns that a row does not attend to: those after last[row], counted from the lane's
  // first column, or before first[row].
  __device__ __forceinline__ void mask_after(int last0, int last1) {
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
      const int column = i / 4 * 8 + i % 2;
      scores[i] = column > (i / 2 % 2 == 0 ? last0 : last1) ? lowest_score() : scores[i];
    }
  }
  __device__ __forceinline__ void mask_before(int first0, int first1) {
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
      const int column = i / 4 * 8 + i % 2;
      scores[i] = column < (i / 2 % 2 == 0 ? first0 : first1) ? lowest_score() : scores[i];
    }
  }

  // Converts products (scores = scale * products) to weights relative to the running maximum.
  // Returns the factor for the results so far.
  template <int kRow>
  __device__ __forceinline__ float weigh_row(float scale) {
    const float now = fmaxf(base[kRow], row_max<kRow>() * scale);
    // Avoids -infinity - -infinity if the row has seen no key yet.
    const float from = now == lowest_score() ? 0.0f : now;
    const float factor = exp2_in_order(base[kRow] - from);
    base[kRow] = now;
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int k = 4 * i + 2 * kRow; k < 4 * i + 2 * kRow + 2; ++k) {
        scores[k] = exp2_in_order(scores[k] * scale - from);
      }
    }
    sum[kRow] = sum[kRow] * factor + row_sum<kRow>();
    return factor;
  }

  // Converts products to weights with the current base, without computing the maximum, which the
  // exponentials would wait for. The sum of the weights shows whether they became too large.
  template <int kRow>
  __device__ __forceinline__ void weigh_by_base(float scale) {
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int k = 4 * i + 2 * kRow; k < 4 * i + 2 * kRow + 2; ++k) {
        scores[k] = exp2_in_order(scores[k] * scale - base[kRow]);
      }
    }
  }

  // If the weights or their sum (over the quad) are too large, scales them down by a power of two.
  template <int kRow>
  __device__ __forceinline__ void shrink_row(float& tile_sum) {
    const float most = quad_max(tile_sum);
    const int up = most > kMuch ? min((__float_as_int(most) >> 23) - 127, 126) : 0;
    const float factor = __int_as_float((127 - up) << 23);
    base[kRow] += up;
    sum[kRow] *= factor;
    tile_sum *= factor;
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
      scores[4 * i + 2 * kRow] *= factor;
      scores[4 * i + 2 * kRow + 1] *= factor;
    }
    scale_out<kRow>(factor);
    round_row<kRow>();
  }

  // Computes the products of the tile again, with mma.sync. query: the address of the warp's 16
  // rows.
  __device__ __forceinline__ void multiply_again(unsigned query, unsigned keys) {
    using Rows = WgmmaRows<kHead>;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) scores[i] = 0.0f;
#pragma unroll 1
    for (int k = 0; k < kHead / 16; ++k) {
      unsigned a[4];
      load_matrices(a, query + Rows::offset(lane % 16, 2 * k + lane / 16));
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        unsigned b[4];
        const unsigned row = 16 * n + lane % 8 + lane / 16 * 8;
        load_matrices(b, keys + Rows::offset(row, 2 * k + lane / 8 % 2));
        multiply_into(8 * n, a, b[0], b[1]);
        multiply_into(8 * n + 4, a, b[2], b[3]);
      }
    }
  }
  __device__ __forceinline__ void multiply_into(int at, const unsigned (&a)[4], unsigned b0,
                                                unsigned b1) {
    float part[4] = {scores[at], scores[at + 1], scores[at + 2], scores[at + 3]};
    multiply_add<T>(part, a, b0, b1);
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[at + i] = part[i];
  }

  // After weigh_by_base: makes sure that no weight is too large, and rounds again if it rescales.
  template <bool kCap>
  __device__ __forceinline__ void limit_weights(float (&tile_sum)[2], const Scoring& scoring,
                                                unsigned query, unsigned keys) {
    if (!__any_sync(kFullWarp, fmaxf(tile_sum[0], tile_sum[1]) > kMuch)) return;
    const float most = fmaxf(quad_max(tile_sum[0]), quad_max(tile_sum[1]));
    if (!__any_sync(kFullWarp, most == -lowest_score())) {
      shrink_row<0>(tile_sum[0]);
      shrink_row<1>(tile_sum[1]);
      return;
    }
    // Overflow in float32: start again with the maximum, as for a masked tile.
    multiply_again(query, keys);
    if (kCap) cap(scoring);
    const float scale = kCap ? scoring.cap : scoring.scale;
    scale_out<0>(weigh_row<0>(scale));
    scale_out<1>(weigh_row<1>(scale));
    round();
    tile_sum[0] = tile_sum[1] = 0.0f;  // weigh_row has added them
  }

  // A partial result of a row, not yet divided by the sum of its weights.
  template <int kRow>
  __device__ __forceinline__ void write_partial(float* values, float2* weight) {
    const float total = quad_sum(sum[kRow]);
    const int lane = threadIdx.x % 32;
    if (values == nullptr) return;
    auto* to = reinterpret_cast<float2*>(values) + lane % 4;
#pragma unroll
    for (int i = 0; i < kHead / 8; ++i) {
      to[4 * i] = make_float2(out[4 * i + 2 * kRow], out[4 * i + 2 * kRow + 1]);
    }
    if (lane % 4 == 0) *weight = make_float2(base[kRow], total);
  }

  // Writes the results. rows: the destination of each row; null for a row that does not exist.
  __device__ __forceinline__ void write(T* const (&rows)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float scale = __fdividef(1.0f, quad_sum(sum[row]));
      unsigned words[kHead / 8];
#pragma unroll
      for (int i = 0; i < kHead / 8; ++i) {
        words[i] = from_floats<T>(out[4 * i + 2 * row] * scale, out[4 * i + 2 * row + 1] * scale);
      }
      write_row(rows[row], words);
    }
  }
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
