// The rings of stages through which the warps of a CTA prefetch weights; see params/gemm.h.
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

// A warp's ring. The warp iterates over the outputs of its CTA, a tile at a time, and for each tile
// over its pieces of the inputs: pieces warp, warp + 8, warp + 16, ...
//
// In shared memory the rows of a piece lie one after another, 128 bytes each. Their 16-byte
// segments are swizzled (XOR with the row's number), so that one segment of eight rows lies in
// different banks.
template <typename T, int kTile>
class WeightRing {
  static constexpr int kPieces = few_rows_pieces(kTile), kStages = few_rows_stages(kTile);
  static constexpr unsigned kStageBytes = few_rows_stage_bytes(kTile);

  const FewRowsParams& p;
  const BlockOutputs outputs;
  const unsigned warp = threadIdx.x / 32, row = threadIdx.x % 32 / 8, segment = threadIdx.x % 8;
  unsigned next_output = 0;  // the CTA's output whose weights are loaded next
  unsigned next_piece = warp;
  int next_stage = 0;
  int stage = 0;
  unsigned char* const ring;

 public:
  // shared: the rings of all warps.
  __device__ WeightRing(const FewRowsParams& params, BlockOutputs block, unsigned char* shared)
      : p(params), outputs(block), ring(shared + warp * params.stages * kStageBytes) {}

  __device__ unsigned pieces() const {
    return (static_cast<unsigned>(p.inputs) + kPieceInputs - 1) / kPieceInputs;
  }
  // Outputs of a tile, half of its rows if gated.
  __device__ unsigned tile_outputs() const { return p.gated ? kTile / 2 : kTile; }

  // Fills the ring, one stage after another: more loads at once would delay those of the kernels
  // that still run.
  __device__ void fill() {
#pragma unroll 1  // less code to fetch
    for (int i = 0; i < kStages; ++i) {
      if (i > 0 && i < p.stages) copies_wait<0>();
      start_load();
    }
  }

  // Waits for the oldest stage, and returns its first piece; pieces are few_rows_piece_bytes apart.
  __device__ const unsigned char* wait() {
    copies_wait<kStages - 1>();
    __syncwarp();
    return ring + stage * kStageBytes;
  }

  // Waits for all stages, and returns the first.
  __device__ const unsigned char* wait_for_all() {
    copies_wait<0>();
    __syncwarp();
    return ring;
  }

  // Frees the oldest stage, and starts loading the next one into it.
  __device__ void release() {
    __syncwarp();
    start_load();
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

 private:
  // Starts to load the next stage. A lane copies a segment of every fourth row. Weight rows that do
  // not exist are not copied: their results are not used. Inputs that do not exist become zeros.
  __device__ void start_load() {
    if (next_piece < pieces() && next_output < outputs.count) {
      const auto base = static_cast<unsigned>(__cvta_generic_to_shared(ring)) +
                        next_stage * kStageBytes + row * kPieceBytes;
      const T* lower = static_cast<const T*>(p.weight) +
                       (outputs.first + next_output + row) * p.weight_stride + segment * 8;
      const T* upper = lower + (p.gated ? p.outputs : kTile / 2) * p.weight_stride;
      const int left = static_cast<int>(outputs.count - next_output - row);
      const int upper_left = p.gated ? left : left - kTile / 2;
      const i64 step = 4 * p.weight_stride;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const unsigned input = (next_piece + i * kFewRowsWarps) * kPieceInputs;
        const bool exists = input + segment * 8 < p.inputs;
        const T* from = lower + input;
#pragma unroll
        for (int j = 0; j < kTile / 4; ++j) {
          constexpr int kHalf = kTile / 8;  // copies of a lane
          if (j == kHalf) from = upper + input;
          const unsigned to = base + i * few_rows_piece_bytes(kTile) + 4 * j * kPieceBytes +
                              (segment ^ row ^ (j % 2 != 0 ? 4u : 0u)) * 16;
          const int here = j < kHalf ? left - 4 * j : upper_left - 4 * (j - kHalf);
          if (here > 0) copy_16_bytes(to, from, exists);
          from += step;
        }
        if (p.norm_weight != nullptr && row == 0) {  // not swizzled
          const unsigned to = base + i * few_rows_piece_bytes(kTile) + kTile * kPieceBytes;
          copy_16_bytes(to + segment * 16,
                        static_cast<const T*>(p.norm_weight) + input + segment * 8, exists);
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
