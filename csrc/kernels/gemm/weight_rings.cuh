// Weights on their way from memory to the warps of a block; see params/gemm.h.
#pragma once

#include "kernels/common/tensor_core.cuh"
#include "params/gemm.h"

namespace vllm {

#if __CUDA_ARCH__ >= 800

constexpr unsigned kPieceInputs = 64;
constexpr unsigned kPieceBytes = 128;  // of a weight row

// The outputs of a block: [first, first + count).
struct BlockOutputs {
  unsigned first;
  unsigned count;
};

// A warp's ring. The warp goes over the outputs of its block, a tile at a time, and for each tile
// over its pieces of the inputs: those of number warp, warp + 8, warp + 16, ...
//
// In shared memory the rows of a piece lie one after another, 128 bytes each, the 16-byte segments
// of a row exchanged by its number: so eight rows of one segment lie in different banks.
template <typename T, int kTile>
class WeightRing {
  static constexpr int kPieces = few_rows_pieces(kTile), kStages = few_rows_stages(kTile);
  static constexpr unsigned kStageBytes = kPieces * kTile * kPieceBytes;

  const FewRowsParams& p;
  const BlockOutputs outputs;
  const unsigned warp = threadIdx.x / 32, row = threadIdx.x % 32 / 8, segment = threadIdx.x % 8;
  unsigned next_output = 0;  // of the block: what is asked for next
  unsigned next_piece = warp;
  int next_stage = 0;
  int stage = 0;
  unsigned char* const ring;

 public:
  // shared: the dynamic shared memory.
  __device__ WeightRing(const FewRowsParams& params, BlockOutputs block, unsigned char* shared)
      : p(params), outputs(block), ring(shared + warp * kStages * kStageBytes) {}

  __device__ unsigned pieces() const {
    return (static_cast<unsigned>(p.inputs) + kPieceInputs - 1) / kPieceInputs;
  }
  // Outputs of a tile, half of its rows if gated.
  __device__ unsigned tile_outputs() const { return p.gated ? kTile / 2 : kTile; }

  // Asks for as much as fits.
  __device__ void fill() {
#pragma unroll 1  // less code to fetch
    for (int i = 0; i < kStages; ++i) ask();
  }

  // Waits for the oldest stage: its first piece, whose others follow kTile * kPieceBytes apart.
  __device__ const unsigned char* wait() {
    copies_wait<kStages - 1>();
    __syncwarp();
    return ring + stage * kStageBytes;
  }

  // Gives it back, and asks for what comes next.
  __device__ void release() {
    __syncwarp();
    ask();
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

 private:
  // A lane copies a segment of every fourth row. Weight rows that do not exist are left as they
  // are: their results go nowhere. Inputs that do not exist become zeros.
  __device__ void ask() {
    if (next_piece < pieces() && next_output < outputs.count) {
      const auto base = static_cast<unsigned>(__cvta_generic_to_shared(ring)) +
                        next_stage * kStageBytes + row * kPieceBytes;
      const T* lower = static_cast<const T*>(p.weight) +
                       (outputs.first + next_output + row) * p.weight_stride + segment * 8;
      const T* upper = lower + (p.gated ? p.outputs : kTile / 2) * p.weight_stride;
      const int left = static_cast<int>(outputs.count - next_output - row);
      const int upper_left = p.gated ? left : left - kTile / 2;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const unsigned piece = next_piece + i * kFewRowsWarps;
        if (piece >= pieces()) break;
        const bool exists = piece * kPieceInputs + segment * 8 < p.inputs;
#pragma unroll
        for (int j = 0; j < kTile / 4; ++j) {
          constexpr int kHalf = kTile / 8;  // copies of a lane
          const bool is_upper = j >= kHalf;
          const int k = is_upper ? j - kHalf : j;
          const T* from = (is_upper ? upper : lower) + 4 * k * p.weight_stride;
          if (4 * k < (is_upper ? upper_left : left)) {
            const unsigned to = base + (i * kTile + 4 * j) * kPieceBytes +
                                (segment ^ row ^ (j % 2 != 0 ? 4u : 0u)) * 16;
            copy_16_bytes(to, from + piece * kPieceInputs, exists);
          }
        }
      }
      next_piece += kPieces * kFewRowsWarps;
      if (next_piece >= pieces()) {
        next_piece = warp;
        next_output += tile_outputs();
      }
    }
    copies_commit();
    next_stage = next_stage + 1 == kStages ? 0 : next_stage + 1;
  }
};

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
