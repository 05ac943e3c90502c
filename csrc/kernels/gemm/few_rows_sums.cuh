// The end of a product of few rows: the sums of all warps are added up, and results written.
#pragma once

#include "kernels/activation/silu.cuh"
#include "kernels/gemm/few_rows_inputs.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

template <typename T, int kTile, int kGroups>
class FewRowsSums {
  static constexpr int kPitch = few_rows_pitch(kTile);
  static constexpr int kFragments = (kTile + 15) / 16;  // of 16 weight rows
  static constexpr unsigned kThreads = 32 * kFewRowsWarps;

  const FewRowsParams& p;
  const BlockOutputs outputs;
  float* const warp_sums;  // [warp][row of x in a group][weight row of the tile]
  float early_residual = 0.0f;

 public:
  // A lane's sums: separate ones for the first and for the second segments, so that their mma do
  // not depend on each other.
  struct Lane {
    float of[2][kFragments][kGroups][4];
  };

  __device__ FewRowsSums(const FewRowsParams& params, BlockOutputs block, float* shared)
      : p(params), outputs(block), warp_sums(shared) {}

  // Prefetches the bias into L2, because it is used at the end, with nothing to hide its latency.
  __device__ void prefetch_bias() const {
    constexpr unsigned kLine = 64;  // elements
    const T* bias = static_cast<const T*>(p.bias);
    if (bias != nullptr && threadIdx.x * kLine < outputs.count) {
      prefetch(bias + outputs.first + threadIdx.x * kLine);
      if (p.gated) prefetch(bias + p.outputs + outputs.first + threadIdx.x * kLine);
    }
  }

  // Loads the residual of a thread's first result, so that its latency is hidden.
  __device__ void load_early_residual() {
    const unsigned tile_outputs = p.gated ? kTile / 2 : kTile;
    const unsigned row_here = threadIdx.x / tile_outputs, output = threadIdx.x % tile_outputs;
    if (p.residual != nullptr && row_here < p.rows && row_here < 8 && output < outputs.count) {
      early_residual = residual(row_here, outputs.first + output);
    }
  }

  // Adds up the sums of all warps and writes the tile that begins at `output` of the block.
  __device__ void finish(const Lane& lane, const FewRowsInputs<T, kTile, kGroups>& inputs,
                         unsigned output) {
    const unsigned warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group * 8 >= p.rows) break;
      if (output > 0 || group > 0) __syncthreads();  // others may still read the previous sums
      float* mine = warp_sums + (warp * 8 + 2 * quad) * kPitch + row;
#pragma unroll
      for (int f = 0; f < kFragments; ++f) {
        const float (&a)[4] = lane.of[0][f][group];
        const float (&b)[4] = lane.of[1][f][group];
        mine[f * 16] = a[0] + b[0];
        mine[f * 16 + kPitch] = a[1] + b[1];
        if (kTile > 8) {
          mine[f * 16 + 8] = a[2] + b[2];
          mine[f * 16 + 8 + kPitch] = a[3] + b[3];
        }
      }
      __syncthreads();
      if (p.gated) {
        write<true>(inputs, group, output);
      } else {
        write<false>(inputs, group, output);
      }
    }
  }

 private:
  template <bool kGated>
  __device__ void write(const FewRowsInputs<T, kTile, kGroups>& inputs, int group,
                        unsigned output) const {
    constexpr unsigned kOutputs = kGated ? kTile / 2 : kTile;
    const unsigned left = static_cast<unsigned>(p.rows) - group * 8, rows = left < 8 ? left : 8;
#pragma unroll 1  // most CTAs have one iteration: less code to fetch
    for (unsigned i = threadIdx.x; i < rows * kOutputs; i += kThreads) {
      const unsigned row_here = i / kOutputs, in_tile = i % kOutputs;
      if (output + in_tile >= outputs.count) continue;
      const unsigned column = outputs.first + output + in_tile, of_row = group * 8 + row_here;
      const bool scale_now = !kScaleFirst<T> && p.norm_weight != nullptr;
      const float scale = scale_now ? inputs.scale_of(of_row) : 1.0f;
      float value = total(row_here, in_tile, column, scale);
      if (kGated) {
        const unsigned other = column + static_cast<unsigned>(p.outputs);
        value = silu<T>(value) * total(row_here, in_tile + kOutputs, other, scale);
      }
      if (p.residual != nullptr) {
        const bool is_early = output == 0 && group == 0 && i == threadIdx.x;
        value += is_early ? early_residual : residual(of_row, column);
      }
      static_cast<T*>(p.out)[of_row * p.out_stride + column] = from_float<T>(value);
    }
  }

  // A product, scaled, and its bias.
  __device__ float total(unsigned row_here, unsigned in_tile, unsigned weight_row,
                         float scale) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kFewRowsWarps; ++i) {
      sum += warp_sums[(i * 8 + row_here) * kPitch + in_tile];
    }
    sum *= scale;
    return p.bias != nullptr ? sum + to_float(static_cast<const T*>(p.bias)[weight_row]) : sum;
  }

  __device__ float residual(unsigned of_row, unsigned output) const {
    return to_float(static_cast<const T*>(p.residual)[of_row * p.residual_stride + output]);
  }
};

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
