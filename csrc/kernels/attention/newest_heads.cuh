// The heads of a sequence's newest token, from the projections: those of the query and of one KV
// head. A warp normalises and rotates a head. The key and the value are written to the cache and
// also to shared memory, because attention reads the cache before that.
//
// Bit for bit what rotary_and_cache does (csrc/kernels/rotary/rotary.cu).
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/rotary/rotary_heads.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

template <typename T, int kHead>
class NewestHeads {
  static constexpr int kWarps = kNewestWarps;
  static constexpr int kPairs = kHead / 64;  // of a lane
  static constexpr unsigned kHalf = kHead / 2;
  using Rows = SharedRows<kHead>;
  using PairsOf = Pairs<T, kPairs, true>;

  // A head's source, destinations and transformation.
  struct Task {
    const T* from = nullptr;
    T* cache = nullptr;  // null: not stored
    unsigned row = 0;    // in shared memory
    bool is_rotated = false, has_norm = false;
    PairsOf weight;  // of the norm
  };

  const RotaryEmbeddingParams& p;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned pair = lane * kPairs;
  const unsigned rows;  // in shared memory: 8 of the query, one of the key, one of the value
  Angles<T, kPairs> angles;
  Task first;  // of this warp

 public:
  __device__ NewestHeads(const RotaryEmbeddingParams& params, unsigned shared)
      : p(params), rows(shared) {}

  // Loads what no earlier kernel writes: cosines and sines, the norm's weights, the slot. To be
  // called before wait_for_kernels_before.
  __device__ void read_early(const AttentionItem& item, int first_head, bool has_newest) {
    const i64 position = item.position;
    const T* row = static_cast<const T*>(p.cos_sin) + position * p.cos_sin_stride;
    angles.read(position < p.max_position ? row : nullptr, pair, kHalf);
    if (warp < heads(item, has_newest)) first = task(item, first_head, warp);
  }

  // Transforms the heads. To be called after wait_for_kernels_before.
  __device__ void transform(const AttentionItem& item, int first_head, bool has_newest) const {
    const int count = heads(item, has_newest);
    if (warp < count) run(first);
    if (warp + kWarps < count) run(task(item, first_head, warp + kWarps));
  }

  // Copies key and value to row `row` of a chunk. One warp calls it.
  __device__ void put(unsigned keys, unsigned values, int row) const {
    for (int segment = lane; segment < Rows::kSegments; segment += 32) {
      copy(keys + Rows::offset(row, segment), rows + Rows::offset(kDecodeRows, segment));
      copy(values + Rows::offset(row, segment), rows + Rows::offset(kDecodeRows + 1, segment));
    }
  }

 private:
  __device__ static int heads(const AttentionItem& item, bool has_newest) {
    return item.rows + (has_newest ? 2 : 0);
  }

  __device__ Task task(const AttentionItem& item, int first_head, int head) const {
    const i64 token = item.token;
    Task result;
    const void* weight = nullptr;
    if (head < item.rows) {
      result.from = static_cast<const T*>(p.query) + token * p.query_token_stride +
                    (first_head + head) * p.query_head_stride;
      result.row = head;
      weight = p.query_weight;
    } else {
      const ReshapeAndCacheParams& w = p.write;
      const i64 slot = w.slots[token];
      const unsigned size = static_cast<unsigned>(w.block_size);
      const i64 block = static_cast<unsigned>(slot) / size;  // the launcher checks that it fits
      const i64 at = static_cast<unsigned>(slot) % size;
      const bool is_key = head == item.rows;
      if (is_key) {
        result.from = static_cast<const T*>(p.key) + token * p.key_token_stride +
                      item.kv_head * p.key_head_stride;
        result.cache = static_cast<T*>(w.key_cache) + block * w.key_block_stride +
                       at * w.key_slot_stride + item.kv_head * w.key_cache_head_stride;
        weight = p.key_weight;
      } else {
        result.from = static_cast<const T*>(w.value) + token * w.value_token_stride +
                      item.kv_head * w.value_head_stride;
        result.cache = static_cast<T*>(w.value_cache) + block * w.value_block_stride +
                       at * w.value_slot_stride + item.kv_head * w.value_cache_head_stride;
      }
      if (slot < 0 || slot >= w.capacity) result.cache = nullptr;
      result.row = kDecodeRows + (is_key ? 0 : 1);
    }
    result.is_rotated = head <= item.rows;
    result.has_norm = weight != nullptr;
    if (result.has_norm) result.weight.read(static_cast<const T*>(weight), pair, kHalf);
    return result;
  }

  __device__ void run(const Task& task) const {
    PairsOf pairs;
    pairs.read(task.from, pair, kHalf);
    if (task.has_norm) {
      const float sum = group_sum(pairs.sum_of_squares(), 5);
      const float scale = norm_scale(sum, static_cast<float>(kHead), p.epsilon);
      pairs.rotate(
          angles, [&](int i) { return scale * task.weight.first(i); },
          [&](int i) { return scale * task.weight.second(i); });
    } else if (task.is_rotated) {
      pairs.rotate(angles, [](int) { return 1.0f; }, [](int) { return 1.0f; });
    }
    write(task.row, pairs);
    if (task.cache != nullptr) pairs.write(task.cache, pair, kHalf);
  }

  __device__ void write(int row, const PairsOf& pairs) const {
    store(address(row, pair), pairs.packs[0]);
    store(address(row, kHalf + pair), pairs.packs[1]);
  }
  __device__ unsigned address(int row, unsigned element) const {
    return rows + Rows::offset(row, element / 8) + element % 8 * 2;
  }
  __device__ static void store(unsigned to, const Pack<T, kPairs>& pack) {
    if constexpr (kPairs == 1) {
      asm volatile("st.shared.b16 [%0], %1;" ::"r"(to), "h"(pack.values[0].bits) : "memory");
    } else {
#pragma unroll
      for (int i = 0; i < kPairs / 2; ++i) {
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(to + 4 * i), "r"(pack.words[i]) : "memory");
      }
    }
  }
  __device__ static void copy(unsigned to, unsigned from) {
    uint4 bytes;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bytes.x), "=r"(bytes.y), "=r"(bytes.z), "=r"(bytes.w)
                 : "r"(from)
                 : "memory");
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(bytes.x), "r"(bytes.y),
                 "r"(bytes.z), "r"(bytes.w)
                 : "memory");
  }
};

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
