// Matrix products of at most 16 rows, which are bound by reading the weights.
//
// A CTA (thread block) computes adjacent outputs, a tile of weight rows at a time. Its warps divide
// the inputs (split-K), and their sums are added up in shared memory. A warp multiplies by mma with
// the weights as the wide operand. It prefetches weights into its ring of stages before it waits
// for earlier kernels (PDL), so that memory is not idle meanwhile. The operations around a product
// (norm, bias, activation, residual) are fused: fewer kernels mean fewer waits between them.
//
// A result depends only on its row and its weights: the inputs are summed in the same order
// whatever the number of rows and the tile. few_rows_once.cu keeps to this order, too.
#include "kernels/common/early_launch.cuh"
#include "kernels/gemm/few_rows_sums.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// kGroups: of 8 rows of x.
template <typename T, int kTile, int kGroups>
class FewRows {
  using Inputs = FewRowsInputs<T, kTile, kGroups>;
  using Stage = typename Inputs::Stage;
  using Sums = FewRowsSums<T, kTile, kGroups>;
  using LaneSums = typename Sums::Lane;
  static constexpr int kPieces = few_rows_pieces(kTile);
  static constexpr int kFragments = (kTile + 15) / 16;        // of 16 weight rows
  static constexpr unsigned kStep = kPieces * kFewRowsWarps;  // pieces of a stage of all warps

  const FewRowsParams& p;
  const BlockOutputs outputs;
  WeightRing<T, kTile> ring;
  Inputs inputs;
  Sums sums;
  const unsigned warp = threadIdx.x / 32;

 public:
  __device__ FewRows(const FewRowsParams& params, BlockOutputs block, unsigned char* shared)
      : p(params),
        outputs(block),
        ring(params, block, shared + few_rows_sums_bytes(kTile)),
        inputs(params, reinterpret_cast<float*>(shared) + few_rows_sums(kTile)),
        sums(params, block, reinterpret_cast<float*>(shared)) {}

  __device__ void run() {
    ring.fill();
    sums.prefetch_bias();
    wait_for_kernels_before();

    // Loads the inputs of two stages ahead, which is all of a warp's inputs in most models.
    Stage even = inputs.load_stage(warp), odd = inputs.load_stage(warp + kStep);
    sums.load_early_residual();
    if (p.norm_weight != nullptr && kScaleFirst<T>) inputs.make_scales();
#pragma unroll 1
    for (unsigned output = 0; output < outputs.count; output += ring.tile_outputs()) {
      const bool is_last = output + ring.tile_outputs() >= outputs.count;
      LaneSums mine{};
#pragma unroll 1
      for (unsigned piece = warp; piece < ring.pieces(); piece += 2 * kStep) {
        process_stage(mine, even, piece, warp, output == 0, is_last);
        if (piece + kStep >= ring.pieces()) break;
        process_stage(mine, odd, piece + kStep, warp + kStep, output == 0, is_last);
      }
      if (p.norm_weight != nullptr && !kScaleFirst<T> && output == 0) inputs.share_squares();
      sums.finish(mine, inputs, output);
    }
  }

 private:
  // Multiplies a stage, then loads the inputs of the stage after the next one in its place. At the
  // end of a tile, that is one of the first two stages of the next tile, which begins with piece
  // `first`.
  __device__ void process_stage(LaneSums& mine, Stage& stage, unsigned piece, unsigned first,
                                bool is_first_tile, bool is_last_tile) {
    const unsigned char* weights = ring.wait();
    if (p.norm_weight != nullptr) inputs.normalize(stage, piece, weights, is_first_tile);
    multiply(mine, weights, stage, piece);
    const unsigned next = piece + 2 * kStep;
    if (next < ring.pieces() || !is_last_tile) {
      stage = inputs.load_stage(next < ring.pieces() ? next : first);
    }
    ring.release();
  }

  __device__ void multiply(LaneSums& mine, const unsigned char* weights, const Stage& stage,
                           unsigned piece) const {
    const unsigned row = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if (piece + i * kFewRowsWarps >= ring.pieces()) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned at = i * few_rows_piece_bytes(kTile) + row * kPieceBytes +
                            ((2 * quad + half) ^ row) * 16;  // row < 8
#pragma unroll
        for (int f = 0; f < kFragments; ++f) {
          const uint4* from = reinterpret_cast<const uint4*>(weights + at + f * 16 * kPieceBytes);
          const uint4 upper = from[0];
          const uint4 lower = kTile > 8 ? from[8 * kPieceBytes / 16] : make_uint4(0, 0, 0, 0);
          const unsigned first[4] = {upper.x, lower.x, upper.y, lower.y};
          const unsigned second[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
          for (int group = 0; group < kGroups; ++group) {
            const unsigned (&x)[4] = stage.x[i][group][half].words;
            float (&sum)[4] = mine.of[half][f][group];
            multiply_add<T>(sum, first, x[0], x[1]);
            multiply_add<T>(sum, second, x[2], x[3]);
          }
        }
      }
    }
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
