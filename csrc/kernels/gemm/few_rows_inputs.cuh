// The inputs of a product of few rows (x): the part that a lane multiplies, and their norm.
#pragma once

#include "kernels/gemm/few_rows_norm.cuh"
#include "kernels/gemm/weight_rings.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// Of kGroups of 8 rows.
template <typename T, int kTile, int kGroups>
class FewRowsInputs {
  static constexpr int kPieces = few_rows_pieces(kTile);
  static constexpr unsigned kPieceStride = few_rows_piece_bytes(kTile);

  const FewRowsParams& p;
  float* const warp_squares;  // [warp][row of x]
  const unsigned warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;
  const T* rows_of_x[kGroups];
  float scale[kGroups];    // of the norm, if applied before the product
  float squares[kGroups];  // of the lane's inputs

 public:
  // Two segments of 8 inputs of each piece of a stage. The four lanes of a row hold segments (0,
  // 1), (2, 3), ... and mma takes the inputs in that order, of x as of the weights.
  struct Stage {
    Pack<T, 8> x[kPieces][kGroups][2];
  };

  __device__ FewRowsInputs(const FewRowsParams& params, float* shared)
      : p(params), warp_squares(shared) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      rows_of_x[group] = row_of(group);
      squares[group] = 0.0f;
    }
  }

  // `piece` is the first of the stage. Inputs that do not exist are zeros.
  __device__ Stage load_stage(unsigned piece) const {
    Stage result;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned input = input_of(piece, i, half);
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          result.x[i][group][half] =
              input < p.inputs ? load<T, 8>(rows_of_x[group] + input) : Pack<T, 8>{};
        }
      }
    }
    return result;
  }

  // Computes the norm's scales, if they are applied before the product. Reads all inputs.
  __device__ void make_scales() {
    const unsigned pieces = (static_cast<unsigned>(p.inputs) + kPieceInputs - 1) / kPieceInputs;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const T* x = rows_of_x[group];
#pragma unroll 2
      for (unsigned piece = warp; piece < pieces; piece += kFewRowsWarps) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const unsigned input = input_of(piece, 0, half);
          if (input < p.inputs) squares[group] += sum_of_squares(load<T, 8>(x + input));
        }
      }
    }
    share_squares();
    __syncthreads();
#pragma unroll
    for (int group = 0; group < kGroups; ++group) scale[group] = scale_of(group * 8 + row);
  }

  // Multiplies the inputs by the norm's weight, which lies after a piece's weight rows. If the
  // norm's scale is applied before the product, multiplies by it too; else adds up the squares,
  // during the first tile of outputs.
  __device__ void normalize(Stage& stage, unsigned piece, const unsigned char* weights,
                            bool is_first_tile) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned input = input_of(piece, i, half);
        if (input >= p.inputs) continue;
        const Pack<T, 8> weight = load<T, 8>(
            reinterpret_cast<const T*>(weights + i * kPieceStride + kTile * kPieceBytes) +
            (2 * quad + half) * 8);
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          Pack<T, 8>& x = stage.x[i][group][half];
          if constexpr (kScaleFirst<T>) {
            x = scaled_norm(x, scale[group], weight);
          } else {
            if (is_first_tile) squares[group] += sum_of_squares(x);
            x = unscaled_norm(x, weight);
          }
        }
      }
    }
  }

  // Publishes the sum of squares of this warp's inputs to the CTA.
  __device__ void share_squares() const {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float sum = squares[group];
      sum += __shfl_xor_sync(kFullWarp, sum, 1);
      sum += __shfl_xor_sync(kFullWarp, sum, 2);
      if (quad == 0) warp_squares[warp * 8 * kGroups + group * 8 + row] = sum;
    }
  }

  // The norm's scale of a row. The CTA must have synchronised since share_squares.
  __device__ float scale_of(unsigned of_row) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kFewRowsWarps; ++i) sum += warp_squares[i * 8 * kGroups + of_row];
    return norm_scale(sum, static_cast<float>(p.inputs), p.epsilon);
  }

 private:
  // The first input of a lane's segment.
  __device__ unsigned input_of(unsigned piece, int i, int half) const {
    return (piece + i * kFewRowsWarps) * kPieceInputs + (2 * quad + half) * 8;
  }

  // The lane's row of x; rows that do not exist repeat the last one.
  __device__ const T* row_of(int group) const {
    const unsigned wanted = group * 8 + row, last = static_cast<unsigned>(p.rows) - 1;
    return static_cast<const T*>(p.x) + (wanted < last ? wanted : last) * p.x_stride;
  }
};

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
