// How the warps of a decode CTA (thread block) prefetch keys and values: in chunks of 16 tokens,
// several chunks ahead, across the ends of items.
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 750

// Reads the chunks of one warp, through all items of its CTA.
template <typename T, int kHead>
struct ChunkReader {
  using Rows = SharedRows<kHead>;
  static constexpr int kStages = decode_stages(kHead, __CUDA_ARCH__ / 10);
  static constexpr int kChunkBytes = kChunk * Rows::kPitch;
  static constexpr int kSegments = kChunk * Rows::kSegments;  // of a chunk

  const AttentionLaunchParams& p;
  const int warp, lane;
  const unsigned stages;  // shared-memory address of this warp's stages
  int stage = 0;          // the stage that the next chunk is copied to

  ItemList items;
  int chunk = 0, chunks_end = 0;  // of the item: the next one, and past the last one
  int begin = 0, end = 0;         // keys of the item
  const int* table = nullptr;
  const T* keys = nullptr;  // of the item's KV head
  const T* values = nullptr;
  // The KV blocks of this warp's next 32 chunks, and the first slot of each chunk; one per lane.
  int held_from = 0, held_block = 0, held_slot = 0;

  __device__ ChunkReader(const AttentionLaunchParams& params, unsigned shared)
      : p(params),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        stages(shared + warp * 2 * kStages * kChunkBytes),
        items(params.items) {}

  __device__ void start(const ItemList& list) {
    items = list;
    skip_items();
  }

  // Opens the next item that has a chunk for this warp, if there is one.
  __device__ void skip_items() {
    while (chunk >= chunks_end && items.more()) open_item();
  }

  __device__ void open_item() {
    const AttentionItem item = items.take();
    const PagedAttentionParams& a = p.attention;
    begin = item.begin;
    end = item.end;
    chunk = begin / kChunk + warp;
    chunks_end = (end + kChunk - 1) / kChunk;
    table = a.block_tables + item.sequence * a.block_tables_stride;
    keys = static_cast<const T*>(a.key_cache) + item.kv_head * a.key_head_stride;
    values = static_cast<const T*>(a.value_cache) + item.kv_head * a.value_head_stride;
    hold_blocks();
  }

  __device__ void hold_blocks() {
    held_from = chunk;
    const int mine = chunk + lane * kAttentionWarps;
    if (mine < chunks_end) {
      const int block_size = static_cast<int>(p.attention.block_size);
      const int block = mine * kChunk / block_size;
      held_slot = mine * kChunk - block * block_size;
      held_block = __ldg(table + block);
    }
  }

  // The element offsets of a token of the next chunk in the caches of its KV head.
  struct Place {
    i64 keys, values;
  };
  __device__ Place find(int position, int token) const {
    const PagedAttentionParams& a = p.attention;
    const i64 block = __shfl_sync(kFullWarp, held_block, position);
    const int slot = __shfl_sync(kFullWarp, held_slot, position) + token;
    return {block * a.key_block_stride + slot * a.key_slot_stride,
            block * a.value_block_stride + slot * a.value_slot_stride};
  }

  // Prefetches the first chunk into L2. Allowed before earlier kernels are done: it is only a hint.
  __device__ void look_ahead() {
    if (chunk >= chunks_end) return;
    const Place place = find(0, lane % kChunk);
    constexpr int kLine = 128 / sizeof(T);
    for (int column = lane / kChunk * kLine; column < kHead; column += 32 / kChunk * kLine) {
      prefetch(keys + place.keys + column);
      prefetch(values + place.values + column);
    }
  }

  // Starts to copy the next chunk, if there is one, and then locates the chunk after it.
  __device__ void read_next() {
    if (chunk < chunks_end) {
      const Place place = find((chunk - held_from) / kAttentionWarps, 0);
      const unsigned to_keys = stages + 2 * stage * kChunkBytes;
      const int token = chunk * kChunk;
      copy(keys + place.keys, p.attention.key_slot_stride, to_keys, token);
      copy(values + place.values, p.attention.value_slot_stride, to_keys + kChunkBytes, token);
      chunk += kAttentionWarps;
      if (chunk == held_from + 32 * kAttentionWarps) hold_blocks();
      skip_items();
    }
    copies_commit();
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

  __device__ void copy(const T* from, i64 stride, unsigned to, int token) const {
#pragma unroll
    for (int i = 0; i < kSegments; i += 32) {
      const int segment = i + lane;
      if (kSegments % 32 != 0 && segment >= kSegments) break;
      const int row = segment / Rows::kSegments, column = segment % Rows::kSegments;
      const bool valid = token + row >= begin && token + row < end;
      copy_16_bytes(to + Rows::offset(row, column), from + row * stride + column * 8, valid);
    }
  }
};

#endif  // __CUDA_ARCH__ >= 750

}  // namespace vllm
