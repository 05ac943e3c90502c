// Matrix products of at most 8 rows in which all weights of a warp fit its ring: bit for bit those
// of few_rows.cu, without loops over tiles and stages.
//
// In a chain of such products, what counts is the time from the end of one kernel to the end of the
// next. So all that does not depend on the kernel before is done before the wait (PDL): half of the
// weights are in registers by then, addresses are computed, biases are loaded. After the wait, all
// inputs are loaded at once, and there is little code, with few branches: each instruction runs
// once in a kernel, so it is rarely in the instruction cache (docs/decisions/0014).
#include "kernels/activation/silu.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/reduce.cuh"
#include "kernels/gemm/few_rows_norm.cuh"
#include "kernels/gemm/weight_rings.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// kCount: pieces of a warp. Of their 2 * kCount halves, kHeld are in registers before the wait.
template <typename T, int kTile, int kCount, int kHeld, bool kNorm>
class FewRowsOnce {
  static constexpr int kStagePieces = few_rows_pieces(kTile), kPitch = few_rows_pitch(kTile);
  static constexpr int kFragments = (kTile + 15) / 16;  // of 16 weight rows
  static constexpr int kWords = kTile > 8 ? 8 : 4;      // of a fragment, of this lane
  static constexpr int kStride = kFewRowsWarps * kPieceInputs;

  // The weights of half a piece: of 8 inputs of every lane.
  struct Half {
    unsigned words[kFragments][kWords];
  };

  const FewRowsParams& p;
  const BlockOutputs outputs;
  const unsigned warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;
  float* const warp_sums;     // [warp][row of x][weight row of the tile]
  float* const warp_squares;  // [warp][row of x]
  const unsigned char* weights = nullptr;

 public:
  __device__ FewRowsOnce(const FewRowsParams& params, BlockOutputs block, unsigned char* shared)
      : p(params),
        outputs(block),
        warp_sums(reinterpret_cast<float*>(shared)),
        warp_squares(warp_sums + few_rows_sums(kTile)) {}

  __device__ void run(unsigned char* rings) {
    WeightRing<T, kTile> ring(p, outputs, rings);
    ring.fill();
    // The result that this thread adds up and writes.
    const unsigned tile_outputs = p.gated ? kTile / 2 : kTile;
    const unsigned of_row = threadIdx.x / tile_outputs, output = threadIdx.x % tile_outputs;
    const unsigned column = outputs.first + output, other = column + p.outputs;
    const bool writes = of_row < p.rows && output < outputs.count;
    const T* bias = static_cast<const T*>(p.bias);
    Pack<T, 1> biases[2] = {};
    if (writes && bias != nullptr) {
      biases[0] = load<T, 1>(bias + column);
      if (p.gated) biases[1] = load<T, 1>(bias + other);
    }
    const T* residual = static_cast<const T*>(p.residual);
    if (writes) residual += of_row * p.residual_stride + column;
    T* out = static_cast<T*>(p.out) + of_row * p.out_stride + column;
    const unsigned last_row = static_cast<unsigned>(p.rows) - 1;
    const T* x = static_cast<const T*>(p.x) + (row < last_row ? row : last_row) * p.x_stride +
                 warp * kPieceInputs + 2 * quad * 8;
    compute_now(residual), compute_now(out);
    weights = ring.wait_for_all();
    Half held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) held[i] = read(i);
    wait_for_kernels_before();

    Pack<T, 8> inputs[2 * kCount];
#pragma unroll
    for (int i = 0; i < 2 * kCount; ++i) {
      inputs[i] = load<T, 8>(x + i / 2 * kStride + i % 2 * 8);
    }
    // By all threads: a branch would wait for it.
    Pack<T, 1> addend{};
    if (p.residual != nullptr) addend = load<T, 1>(residual);
    if (kNorm) normalize(inputs);

    float sums[2][kFragments][4] = {};
#pragma unroll
    for (int i = 0; i < 2 * kCount; ++i) {
      multiply(sums[i % 2], i < kHeld ? held[i] : read(i), inputs[i].words);
    }
    share(sums);
    __syncthreads();
    if (!writes) return;
    const float scale = kNorm && !kScaleFirst<T> ? scale_of(of_row) : 1.0f;
    float value = total(of_row, output, scale, biases[0]);
    if (p.gated) value = silu<T>(value) * total(of_row, output + kTile / 2, scale, biases[1]);
    if (p.residual != nullptr) value += addend.get(0);
    *out = from_float<T>(value);
  }

 private:
  // Keeps the compiler from computing an address after the wait.
  template <typename Pointer>
  __device__ static void compute_now(Pointer& pointer) {
    asm volatile("" : "+l"(pointer));
  }

  __device__ const unsigned char* piece(int i) const {
    return weights + i / kStagePieces * few_rows_stage_bytes(kTile) +
           i % kStagePieces * few_rows_piece_bytes(kTile);
  }

  // Half `i % 2` of piece i / 2, as mma takes it.
  __device__ Half read(int i) const {
    Half result;
    const unsigned at = row * kPieceBytes + ((2 * quad + i % 2) ^ row) * 16;  // row < 8
    const uint4* from = reinterpret_cast<const uint4*>(piece(i / 2) + at);
#pragma unroll
    for (int f = 0; f < kFragments; ++f) {
      constexpr int kRow = kPieceBytes / 16;
      unsigned (&to)[kWords] = result.words[f];
      const uint4 upper = from[f * 16 * kRow];
      if constexpr (kTile > 8) {
        const uint4 lower = from[(f * 16 + 8) * kRow];
        to[0] = upper.x, to[1] = lower.x, to[2] = upper.y, to[3] = lower.y;
        to[4] = upper.z, to[5] = lower.z, to[6] = upper.w, to[7] = lower.w;
      } else {
        to[0] = upper.x, to[1] = upper.y, to[2] = upper.z, to[3] = upper.w;
      }
    }
    return result;
  }

  __device__ static void multiply(float (&sums)[kFragments][4], const Half& weight,
                                  const unsigned (&x)[4]) {
#pragma unroll
    for (int f = 0; f < kFragments; ++f) {
      const unsigned (&w)[kWords] = weight.words[f];
      if constexpr (kTile > 8) {
        const unsigned first[4] = {w[0], w[1], w[2], w[3]}, second[4] = {w[4], w[5], w[6], w[7]};
        multiply_add<T>(sums[f], first, x[0], x[1]);
        multiply_add<T>(sums[f], second, x[2], x[3]);
      } else {
        const unsigned first[4] = {w[0], 0, w[1], 0}, second[4] = {w[2], 0, w[3], 0};
        multiply_add<T>(sums[f], first, x[0], x[1]);
        multiply_add<T>(sums[f], second, x[2], x[3]);
      }
    }
  }

  // Multiplies the inputs by the norm's weight, which lies after a piece's weight rows, and shares
  // the sum of their squares. If the norm's scale comes first, multiplies by it too.
  __device__ void normalize(Pack<T, 8> (&inputs)[2 * kCount]) {
    float squares = 0.0f;
#pragma unroll
    for (const Pack<T, 8>& x : inputs) squares += sum_of_squares(x);
    squares += __shfl_xor_sync(kFullWarp, squares, 1);
    squares += __shfl_xor_sync(kFullWarp, squares, 2);
    if (quad == 0) warp_squares[warp * 8 + row] = squares;
    float scale = 1.0f;
    if (kScaleFirst<T>) {
      __syncthreads();
      scale = scale_of(row);
    }
#pragma unroll
    for (int i = 0; i < 2 * kCount; ++i) {
      const Pack<T, 8> weight = load<T, 8>(
          reinterpret_cast<const T*>(piece(i / 2) + kTile * kPieceBytes) + (2 * quad + i % 2) * 8);
      if constexpr (kScaleFirst<T>) {
        inputs[i] = scaled_norm(inputs[i], scale, weight);
      } else {
        inputs[i] = unscaled_norm(inputs[i], weight);
      }
    }
  }

  // The norm's scale of a row of x. The CTA must have synchronised since its squares were shared.
  __device__ float scale_of(unsigned of_row) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kFewRowsWarps; ++i) sum += warp_squares[i * 8 + of_row];
    return norm_scale(sum, static_cast<float>(p.inputs), p.epsilon);
  }

  __device__ void share(const float (&sums)[2][kFragments][4]) const {
    float* mine = warp_sums + (warp * 8 + 2 * quad) * kPitch + row;
#pragma unroll
    for (int f = 0; f < kFragments; ++f) {
      const float (&a)[4] = sums[0][f];
      const float (&b)[4] = sums[1][f];
      mine[f * 16] = a[0] + b[0];
      mine[f * 16 + kPitch] = a[1] + b[1];
      if (kTile > 8) {
        mine[f * 16 + 8] = a[2] + b[2];
        mine[f * 16 + 8 + kPitch] = a[3] + b[3];
      }
    }
  }

  // A product, scaled, and its bias.
  __device__ float total(unsigned of_row, unsigned in_tile, float scale,
                         const Pack<T, 1>& bias) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kFewRowsWarps; ++i) {
      sum += warp_sums[(i * 8 + of_row) * kPitch + in_tile];
    }
    sum *= scale;
    return p.bias != nullptr ? sum + bias.get(0) : sum;
  }
};

#endif  // __CUDA_ARCH__ >= 800

template <typename T, int kTile, int kCount, int kHeld, bool kNorm>
__device__ void few_rows_once(const FewRowsParams& p) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(128) unsigned char shared[];
  allow_kernels_after();  // at once: the next kernel may prefetch its weights
  const auto wanted = static_cast<unsigned>(p.block_outputs);
  const unsigned first = blockIdx.x * wanted, left = static_cast<unsigned>(p.outputs) - first;
  FewRowsOnce<T, kTile, kCount, kHeld, kNorm>(p, {first, left < wanted ? left : wanted}, shared)
      .run(shared + few_rows_sums_bytes(kTile));
#endif
}

}  // namespace vllm

#define VLLM_FEW_ROWS_ONCE_OF(name, T, tile, pieces, norm, held)                                \
  extern "C" __global__ void __launch_bounds__(256, 2)                                          \
      few_rows_once_##name##_##tile##_##pieces(__grid_constant__ const vllm::FewRowsParams p) { \
    vllm::few_rows_once<T, tile, pieces, held, norm>(p);                                        \
  }
#define VLLM_FEW_ROWS_ONCE(tile, pieces, norm, held)               \
  VLLM_FEW_ROWS_ONCE_OF(f16, vllm::Half, tile, pieces, norm, held) \
  VLLM_FEW_ROWS_ONCE_OF(bf16, vllm::BFloat16, tile, pieces, norm, held)

VLLM_FEW_ROWS_ONCE(8, 4, false, 4)
VLLM_FEW_ROWS_ONCE(8, 6, false, 6)
VLLM_FEW_ROWS_ONCE(16, 4, false, 4)
VLLM_FEW_ROWS_ONCE(32, 2, true, 3)
VLLM_FEW_ROWS_ONCE(48, 2, true, 2)
