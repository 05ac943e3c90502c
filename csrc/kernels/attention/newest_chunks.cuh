// How the warps of attention_newest.cu copy keys and values: in chunks of 16 tokens.
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// The chunks of one warp, which has a stage for one of them.
template <typename T, int kHead>
class ChunkCopies {
  using Rows = SharedRows<kHead>;
  static constexpr int kSegments = Rows::kSegments;
  static constexpr int kRows = 32 / kSegments;  // that the lanes copy at once

  const PagedAttentionParams& p;
  const int chunks_per_block;
  const int row = threadIdx.x % 32 / kSegments, segment = threadIdx.x % kSegments;
  const unsigned stage;

 public:
  static constexpr int kBytes = kChunk * Rows::kPitch;  // of keys, and of values

  __device__ ChunkCopies(const PagedAttentionParams& params, unsigned of_warp)
      : p(params), chunks_per_block(static_cast<int>(params.block_size) / kChunk), stage(of_warp) {}

  __device__ unsigned keys() const { return stage; }
  __device__ unsigned values() const { return stage + kBytes; }

  // Prefetches a chunk into L2: only a hint.
  __device__ void look_ahead(const AttentionItem& item, int chunk) const {
    const int place = chunks_per_block == 1 ? chunk : chunk / chunks_per_block;
    const i64 block = __ldg(p.block_tables + item.sequence * p.block_tables_stride + place);
    const int slot = (chunk - place * chunks_per_block) * kChunk + threadIdx.x % kChunk;
    for (int column = threadIdx.x % 32 / kChunk * 64; column < kHead; column += 128) {
      prefetch(static_cast<const T*>(p.key_cache) + block * p.key_block_stride +
               item.kv_head * p.key_head_stride + slot * p.key_slot_stride + column);
      prefetch(static_cast<const T*>(p.value_cache) + block * p.value_block_stride +
               item.kv_head * p.value_head_stride + slot * p.value_slot_stride + column);
    }
  }

  // Starts to copy a chunk: its keys in one group, its values in another. Keys outside of
  // [begin, end) become zeros.
  __device__ void start(const AttentionItem& item, int chunk, int begin, int end) const {
    const int place = chunks_per_block == 1 ? chunk : chunk / chunks_per_block;
    const i64 block = __ldg(p.block_tables + item.sequence * p.block_tables_stride + place);
    const int slot = (chunk - place * chunks_per_block) * kChunk + row;
    copy(static_cast<const T*>(p.key_cache) + block * p.key_block_stride +
             item.kv_head * p.key_head_stride + slot * p.key_slot_stride,
         p.key_slot_stride, keys(), chunk * kChunk, begin, end);
    copies_commit();
    copy(static_cast<const T*>(p.value_cache) + block * p.value_block_stride +
             item.kv_head * p.value_head_stride + slot * p.value_slot_stride,
         p.value_slot_stride, values(), chunk * kChunk, begin, end);
    copies_commit();
  }

 private:
  __device__ void copy(const T* from, i64 stride, unsigned to, int key, int begin, int end) const {
    from += segment * 8;
    key += row;
#pragma unroll
    for (int i = 0; i < kChunk; i += kRows) {
      copy_16_bytes(to + Rows::offset(row + i, segment), from + i * stride,
                    key + i >= begin && key + i < end);
    }
  }
};

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
