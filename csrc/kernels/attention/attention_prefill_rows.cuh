// The registers of a warp of the mma.sync prefill kernel: the scores of its query rows for a tile
// of keys, and their running results.
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/attention/attention_write.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 750

// Makes a loop-invariant address look new to the compiler, which would otherwise keep everything
// computed from it in registers.
__device__ __forceinline__ void hide(unsigned& address) { asm volatile("" : "+r"(address)); }

// The initial base: no score is less, and it is finite, so that the difference of two is not NaN.
constexpr float kLowest = -3.4028235e38f;

// Whether T has the exponent range of float32.
template <typename T>
constexpr bool kWide = false;
template <>
constexpr bool kWide<BFloat16> = true;

// A warp has kStrips strips of 16 query rows. Arrays [...][n][4] have the layout of mma.m16n8k16: a
// lane holds two rows of a strip, row 0 (lane / 4) and row 1 (lane / 4 + 8), and of each of them
// columns 8 n + 2 (lane % 4) and the next one, in elements [n][2 row] and [n][2 row + 1].
template <typename T, int kHead, int kKeys, int kStrips>
struct PrefillRows {
  using Shared = SharedRows<kHead>;
  static constexpr int kSteps = kHead / 16;
  // Query rows stay in registers if there are enough for them beside scores and results.
  static constexpr int kHeld = kStrips * kSteps <= 8 ? kSteps : 0;
  // How many matrices are loaded ahead of the products that use them.
  static constexpr int kAhead = 2;
  // How much the maximum score may grow before the results are rescaled: weights are at most 2^8.
  static constexpr float kSlack = 8.0f;
  // If a row's sum of weights reaches this, its results may have overflowed (with values up to
  // 2^87).
  static constexpr float kWild = 1099511627776.0f;  // 2^40

  unsigned query[kHeld + 1][kStrips][4];
  float scores[kStrips][kKeys / 8][4];  // products of a tile; then scores, and weights
  float out[kStrips][kHead / 8][4];
  float base[kStrips][2];  // subtracted from scores, in units of log(2)
  float sum[kStrips][2];   // of the weights in this lane's columns

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
#pragma unroll
      for (auto& each : out[s]) each[0] = each[1] = each[2] = each[3] = 0.0f;
      base[s][0] = base[s][1] = kLowest;
      sum[s][0] = sum[s][1] = 0.0f;
    }
  }

  // Whether scores have exceeded the base by so much that the results may have overflowed.
  __device__ __forceinline__ bool wild() const {
    bool wild = false;
#pragma unroll
    for (auto& each : sum) wild = wild || !(each[0] + each[1] < kWild);  // also for NaN
    return wild;
  }

  // The address that this lane passes to ldmatrix for the first 16 columns of 16 query rows, values
  // or keys that begin at `rows`.
  __device__ static unsigned query_part(unsigned rows) {
    const int lane = threadIdx.x % 32;
    return rows + Shared::offset(lane % 16, lane / 16);
  }
  __device__ static unsigned value_part(unsigned rows) { return query_part(rows); }
  __device__ static unsigned key_part(unsigned rows) {
    const int lane = threadIdx.x % 32;
    return rows + Shared::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  }

  __device__ __forceinline__ void load_query(unsigned from, int step,
                                             unsigned (&to)[kStrips][4]) const {
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
      load_matrices(to[s], Shared::further(from, step) + s * 16 * Shared::kPitch);
    }
  }
  __device__ __forceinline__ void hold_query(unsigned from) {
#pragma unroll
    for (int k = 0; k < kHeld; ++k) load_query(from, k, query[k]);
  }

  // scores = query . keys
  __device__ __forceinline__ void multiply_keys(unsigned query_rows, unsigned keys) {
    constexpr int kTiles = kKeys / 16, kLoads = kSteps * kTiles;
    hide(query_rows);
    hide(keys);
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
#pragma unroll
      for (auto& each : scores[s]) each[0] = each[1] = each[2] = each[3] = 0.0f;
    }
    unsigned a[2][kStrips][4], b[kAhead + 1][4];
    // Keys 16 n and on as the second operand: matrices (keys, elements) (0, 0), (0, 1), (1, 0),
    // (1, 1) of 8 each.
    const auto load = [&](int i) {
      const int k = i / kTiles, n = i % kTiles;
      if (kHeld == 0 && n == 0) load_query(query_rows, k, a[k % 2]);
      load_matrices(b[i % (kAhead + 1)], Shared::further(keys, k) + n * 16 * Shared::kPitch);
    };
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load(i);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (i + kAhead < kLoads) load(i + kAhead);
      const int k = i / kTiles, n = i % kTiles;
      const auto& columns = b[i % (kAhead + 1)];
#pragma unroll
      for (int s = 0; s < kStrips; ++s) {
        const auto& rows = kHeld == 0 ? a[k % 2][s] : query[k % (kHeld + 1)][s];
        multiply_add<T>(scores[s][2 * n], rows, columns[0], columns[1]);
        multiply_add<T>(scores[s][2 * n + 1], rows, columns[2], columns[3]);
      }
    }
  }

  // Calls function(score, strip, row, column); `column` is relative to the lane's first one.
  template <typename Function>
  __device__ __forceinline__ void for_each_score(Function function) {
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) function(scores[s][n][i], s, i / 2, 8 * n + i % 2);
      }
    }
  }

  // Applies the soft cap to products: the results are scores in units of the cap.
  __device__ __forceinline__ void cap(const Scoring& scoring) {
    float most = 0.0f;
    for_each_score([&](float& score, int, int, int) { most = fmaxf(most, fabsf(score)); });
    const TanhOfSmall tanh_of_small(scoring.share);
    if (__all_sync(kFullWarp, most <= tanh_of_small.greatest)) {
      for_each_score([&](float& score, int, int, int) { score = tanh_of_small(score); });
    } else {
      for_each_score([&](float& score, int, int, int) { score = scoring.tanh_of(score); });
    }
  }

  // Masks the keys that a row does not attend to: those after last[strip][row], counted from the
  // lane's first column, and those before the last `window` keys.
  __device__ __forceinline__ void mask_after(const int (&last)[kStrips][2]) {
    for_each_score([&](float& score, int s, int row, int column) {
      score = column > last[s][row] ? lowest_score() : score;
    });
  }
  __device__ __forceinline__ void mask_before(const int (&last)[kStrips][2], int window) {
    for_each_score([&](float& score, int s, int row, int column) {
      score = column <= last[s][row] - window ? lowest_score() : score;
    });
  }

  // Raises the base if it is more than kSlack below a score times `scale`. So most tiles need not
  // rescale the results.
  __device__ __forceinline__ void raise_base(float scale) {
    float now[kStrips][2];
    bool grows = false;
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float most = scores[s][0][2 * row];
#pragma unroll
        for (auto& each : scores[s]) {
          most = fmaxf(most, fmaxf(each[2 * row], each[2 * row + 1]));
        }
        now[s][row] = fmaxf(base[s][row], quad_max(most) * scale);
        grows = grows || now[s][row] > base[s][row] + kSlack;
      }
    }
    if (!__any_sync(kFullWarp, grows)) return;
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float factor = exp2_fast(base[s][row] - now[s][row]);
        base[s][row] = now[s][row];
        sum[s][row] *= factor;
#pragma unroll
        for (auto& each : out[s]) {
          each[2 * row] *= factor;
          each[2 * row + 1] *= factor;
        }
      }
    }
  }

  // Converts the scores of the 16 keys from 16 n on to weights.
  __device__ __forceinline__ void weigh(float scale, int n) {
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& each = scores[s][2 * n + i / 4][i % 4];
        each = exp2_fast(each * scale - base[s][i / 2 % 2]);
        sum[s][i / 2 % 2] += each;
      }
    }
  }

  // Converts scores to weights, and computes out += weights . values. The products of some keys
  // overlap with the exponentials of the next, which take about half as long.
  __device__ __forceinline__ void multiply_values(float scale, unsigned values) {
    constexpr int kLoads = kKeys / 16 * kSteps;
    hide(values);
    unsigned rows[kStrips][4], b[kAhead + 1][4];
    // Values as the second operand: matrices (keys, elements) (0, 0), (1, 0), (0, 1), (1, 1).
    const auto load = [&](int i) {
      const int n = i / kSteps, d = i % kSteps;
      load_matrices_transposed(b[i % (kAhead + 1)],
                               Shared::further(values, d) + n * 16 * Shared::kPitch);
    };
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load(i);
    weigh(scale, 0);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (i + kAhead < kLoads) load(i + kAhead);
      const int n = i / kSteps, d = i % kSteps;
      if (d == 0 && i + kSteps < kLoads) weigh(scale, n + 1);
      const auto& columns = b[i % (kAhead + 1)];
#pragma unroll
      for (int s = 0; s < kStrips; ++s) {
        if (d == 0) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float* pair = scores[s][2 * n + j / 2] + j % 2 * 2;
            rows[s][j] = from_floats<T>(pair[0], pair[1]);
          }
        }
        multiply_add<T>(out[s][2 * d], rows[s], columns[0], columns[1]);
        multiply_add<T>(out[s][2 * d + 1], rows[s], columns[2], columns[3]);
      }
    }
  }
};

#endif  // __CUDA_ARCH__ >= 750

}  // namespace vllm
