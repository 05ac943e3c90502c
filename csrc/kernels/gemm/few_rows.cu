// Matrix products of at most 16 rows, which are bound by reading the weights.
//
// A CTA (thread block) computes adjacent outputs, a tile of weight rows at a time. Its warps divide
// the inputs (split-K), and their sums are added up in shared memory. A warp multiplies by mma with
// the weights as the wide operand. It prefetches weights into its ring of stages before it waits
// for earlier kernels (PDL), so that memory is never idle. The operations around a product (norm,
// bias, activation, residual) are fused: fewer kernels mean fewer waits between them.
//
// A result depends only on its row and its weights: the inputs are summed in the same order
// whatever the number of rows and the tile.
#include "kernels/activation/silu.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/gemm/weight_rings.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

template <typename T>
constexpr bool kIsHalf = false;
template <>
constexpr bool kIsHalf<Half> = true;

// Of two pairs of bfloat16, each product rounded once.
__device__ inline unsigned product_of_pairs(unsigned a, unsigned b) {
  unsigned result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(0x80008000u));  // -0
  return result;
}

// kGroups: of 8 rows of x.
template <typename T, int kTile, int kGroups>
class FewRows {
  static constexpr int kPieces = few_rows_pieces(kTile), kPitch = few_rows_pitch(kTile);
  static constexpr int kFragments = (kTile + 15) / 16;  // of 16 weight rows
  static constexpr unsigned kThreads = 32 * kFewRowsWarps;
  static constexpr unsigned kStep = kPieces * kFewRowsWarps;  // pieces of a stage of all warps
  static constexpr unsigned kPieceStride = few_rows_piece_bytes(kTile);
  // Whether the norm's scale is applied to the inputs before they are rounded, which needs all of
  // them first, or to the product. Unscaled inputs might overflow float16.
  static constexpr bool kScaleFirst = kIsHalf<T>;

  // What a lane multiplies by: two segments of 8 inputs of a piece. The four lanes of a row hold
  // segments (0, 1), (2, 3), ... and mma takes the inputs in that order, of x as of the weights.
  struct Inputs {
    Pack<T, 8> x[kPieces][kGroups][2];
  };
  // Sums of the first and of the second segments, which do not wait for each other.
  struct Sums {
    float of[2][kFragments][kGroups][4];
  };

  const FewRowsParams& p;
  const BlockOutputs outputs;
  WeightRing<T, kTile> ring;
  float* const warp_sums;     // [warp][row of x in a group][weight row of the tile]
  float* const warp_squares;  // [warp][row of x]
  const unsigned warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;
  const T* rows_of_x[kGroups];
  float scale[kGroups];    // of the norm, where it comes before the product
  float squares[kGroups];  // of the lane's inputs
  float early_residual = 0.0f;

 public:
  __device__ FewRows(const FewRowsParams& params, BlockOutputs block, unsigned char* shared)
      : p(params),
        outputs(block),
        ring(params, block, shared + few_rows_sums_bytes(kTile)),
        warp_sums(reinterpret_cast<float*>(shared)),
        warp_squares(warp_sums + few_rows_sums(kTile)) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      rows_of_x[group] = row_of(group);
      squares[group] = 0.0f;
    }
  }

  __device__ void run() {
    ring.fill();
    prefetch_bias();
    wait_for_kernels_before();

    // Loads the inputs of two stages ahead, which is all of a warp's inputs in most models.
    Inputs even = load_inputs(warp), odd = load_inputs(warp + kStep);
    load_early_residual();
    if (p.norm_weight != nullptr && kScaleFirst) make_scales();
#pragma unroll 1
    for (unsigned output = 0; output < outputs.count; output += ring.tile_outputs()) {
      const bool is_last = output + ring.tile_outputs() >= outputs.count;
      Sums sums{};
#pragma unroll 1
      for (unsigned piece = warp; piece < ring.pieces(); piece += 2 * kStep) {
        take(sums, even, piece, warp, output == 0, is_last);
        if (piece + kStep >= ring.pieces()) break;
        take(sums, odd, piece + kStep, warp + kStep, output == 0, is_last);
      }
      if (p.norm_weight != nullptr && !kScaleFirst && output == 0) share_squares();
      finish(sums, output);
    }
  }

 private:
  // Multiplies a stage, and loads the inputs of the one after the next. Behind the last that is one
  // of the next tile, which begins with `first`.
  __device__ void take(Sums& sums, Inputs& inputs, unsigned piece, unsigned first,
                       bool is_first_tile, bool is_last_tile) {
    const unsigned char* weights = ring.wait();
    if (p.norm_weight != nullptr) normalize(inputs, piece, weights, is_first_tile);
    multiply(sums, weights, inputs, piece);
    const unsigned next = piece + 2 * kStep;
    if (next < ring.pieces() || !is_last_tile) {
      inputs = load_inputs(next < ring.pieces() ? next : first);
    }
    ring.release();
  }

  // The first input of a lane's segment.
  __device__ unsigned input_of(unsigned piece, int i, int half) const {
    return (piece + i * kFewRowsWarps) * kPieceInputs + (2 * quad + half) * 8;
  }

  // The lane's row of x; rows that do not exist repeat the last one.
  __device__ const T* row_of(int group) const {
    const unsigned wanted = group * 8 + row, last = static_cast<unsigned>(p.rows) - 1;
    return static_cast<const T*>(p.x) + (wanted < last ? wanted : last) * p.x_stride;
  }

  __device__ Inputs load_inputs(unsigned piece) const {
    Inputs result;
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

  // The bias comes from memory and would be late.
  __device__ void prefetch_bias() const {
    constexpr unsigned kLine = 64;  // elements
    const T* bias = static_cast<const T*>(p.bias);
    if (bias != nullptr && threadIdx.x * kLine < outputs.count) {
      prefetch(bias + outputs.first + threadIdx.x * kLine);
      if (p.gated) prefetch(bias + p.outputs + outputs.first + threadIdx.x * kLine);
    }
  }

  // What a thread will add to its first result.
  __device__ void load_early_residual() {
    const unsigned row_here = threadIdx.x / ring.tile_outputs();
    const unsigned output = threadIdx.x % ring.tile_outputs();
    if (p.residual != nullptr && row_here < p.rows && row_here < 8 && output < outputs.count) {
      early_residual = residual(row_here, outputs.first + output);
    }
  }
  __device__ float residual(unsigned of_row, unsigned output) const {
    return to_float(static_cast<const T*>(p.residual)[of_row * p.residual_stride + output]);
  }

  __device__ static float sum_of_squares(const Pack<T, 8>& pack) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += pack.get(k) * pack.get(k);
    return sum;
  }

  // Publishes the sum of squares of this warp's inputs to the CTA.
  __device__ void share_squares() {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float sum = squares[group];
      sum += __shfl_xor_sync(kFullWarp, sum, 1);
      sum += __shfl_xor_sync(kFullWarp, sum, 2);
      if (quad == 0) warp_squares[warp * 8 * kGroups + group * 8 + row] = sum;
    }
  }
  __device__ float scale_of(unsigned of_row) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kFewRowsWarps; ++i) sum += warp_squares[i * 8 * kGroups + of_row];
    return norm_scale(sum, static_cast<float>(p.inputs), p.epsilon);
  }

  __device__ void make_scales() {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const T* x = rows_of_x[group];
#pragma unroll 2
      for (unsigned piece = warp; piece < ring.pieces(); piece += kFewRowsWarps) {
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

  // Multiplies by the norm's weight and, if that comes first, by its scale.
  __device__ void normalize(Inputs& inputs, unsigned piece, const unsigned char* weights,
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
          Pack<T, 8>& x = inputs.x[i][group][half];
          if constexpr (kScaleFirst) {
            float values[8];
#pragma unroll
            for (int k = 0; k < 8; ++k) values[k] = x.get(k) * scale[group] * weight.get(k);
            x.set(values);
          } else {
            if (is_first_tile) squares[group] += sum_of_squares(x);
#pragma unroll
            for (int k = 0; k < 4; ++k) x.words[k] = product_of_pairs(x.words[k], weight.words[k]);
          }
        }
      }
    }
  }

  __device__ void multiply(Sums& sums, const unsigned char* weights, const Inputs& inputs,
                           unsigned piece) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if (piece + i * kFewRowsWarps >= ring.pieces()) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned at =
            i * kPieceStride + row * kPieceBytes + ((2 * quad + half) ^ row) * 16;  // row < 8
#pragma unroll
        for (int f = 0; f < kFragments; ++f) {
          const uint4* from = reinterpret_cast<const uint4*>(weights + at + f * 16 * kPieceBytes);
          const uint4 upper = from[0];
          const uint4 lower = kTile > 8 ? from[8 * kPieceBytes / 16] : make_uint4(0, 0, 0, 0);
          const unsigned first[4] = {upper.x, lower.x, upper.y, lower.y};
          const unsigned second[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
          for (int group = 0; group < kGroups; ++group) {
            const unsigned (&x)[4] = inputs.x[i][group][half].words;
            float (&sum)[4] = sums.of[half][f][group];
            multiply_add<T>(sum, first, x[0], x[1]);
            multiply_add<T>(sum, second, x[2], x[3]);
          }
        }
      }
    }
  }

  // Adds up the sums of all warps and writes the tile that begins at `output` of the block.
  __device__ void finish(const Sums& sums, unsigned output) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group * 8 >= p.rows) break;
      if (output > 0 || group > 0) __syncthreads();  // others may still read what was here
      float* mine = warp_sums + (warp * 8 + 2 * quad) * kPitch + row;
#pragma unroll
      for (int f = 0; f < kFragments; ++f) {
        const float (&a)[4] = sums.of[0][f][group];
        const float (&b)[4] = sums.of[1][f][group];
        mine[f * 16] = a[0] + b[0];
        mine[f * 16 + kPitch] = a[1] + b[1];
        if (kTile > 8) {
          mine[f * 16 + 8] = a[2] + b[2];
          mine[f * 16 + 8 + kPitch] = a[3] + b[3];
        }
      }
      __syncthreads();
      if (p.gated) {
        write<true>(group, output);
      } else {
        write<false>(group, output);
      }
    }
  }

  template <bool kGated>
  __device__ void write(int group, unsigned output) const {
    constexpr unsigned kOutputs = kGated ? kTile / 2 : kTile;
    const unsigned left = static_cast<unsigned>(p.rows) - group * 8, rows = left < 8 ? left : 8;
#pragma unroll 1  // most CTAs have one iteration: less code to fetch
    for (unsigned i = threadIdx.x; i < rows * kOutputs; i += kThreads) {
      const unsigned row_here = i / kOutputs, in_tile = i % kOutputs;
      if (output + in_tile >= outputs.count) continue;
      const unsigned column = outputs.first + output + in_tile, of_row = group * 8 + row_here;
      const float scale_here = !kScaleFirst && p.norm_weight != nullptr ? scale_of(of_row) : 1.0f;
      float value = total(row_here, in_tile, column, scale_here);
      if (kGated) {
        const unsigned other = column + static_cast<unsigned>(p.outputs);
        value = silu<T>(value) * total(row_here, in_tile + kOutputs, other, scale_here);
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
                         float scale_here) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kFewRowsWarps; ++i) {
      sum += warp_sums[(i * 8 + row_here) * kPitch + in_tile];
    }
    sum *= scale_here;
    return p.bias != nullptr ? sum + to_float(static_cast<const T*>(p.bias)[weight_row]) : sum;
  }
};

#endif  // __CUDA_ARCH__ >= 800

template <typename T, int kTile, int kGroups>
__device__ void few_rows(const FewRowsParams& p) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(128) unsigned char shared[];
  allow_kernels_after();  // at once: the next kernel may prefetch its weights
  const auto wanted = static_cast<unsigned>(p.block_outputs);
  const unsigned first = blockIdx.x * wanted, left = static_cast<unsigned>(p.outputs) - first;
  FewRows<T, kTile, kGroups>(p, {first, left < wanted ? left : wanted}, shared).run();
#endif
}

}  // namespace vllm

#define VLLM_FEW_ROWS(name, T, tile, rows)                                               \
  extern "C" __global__ void __launch_bounds__(256, rows == 8 ? 3 : 2)                   \
      few_rows_##name##_##tile##_##rows(__grid_constant__ const vllm::FewRowsParams p) { \
    vllm::few_rows<T, tile, rows / 8>(p);                                                \
  }
#define VLLM_FEW_ROWS_TILE(tile)               \
  VLLM_FEW_ROWS(f16, vllm::Half, tile, 8)      \
  VLLM_FEW_ROWS(f16, vllm::Half, tile, 16)     \
  VLLM_FEW_ROWS(bf16, vllm::BFloat16, tile, 8) \
  VLLM_FEW_ROWS(bf16, vllm::BFloat16, tile, 16)

VLLM_FEW_ROWS_TILE(8)
VLLM_FEW_ROWS_TILE(16)
VLLM_FEW_ROWS_TILE(32)
VLLM_FEW_ROWS_TILE(48)
