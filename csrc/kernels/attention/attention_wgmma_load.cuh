// The loading warps of the wgmma prefill kernel: one chooses items and issues the copies of their
// keys, one issues the copies of values, and two copy query rows.
#pragma once

#include "kernels/attention/attention_wgmma_tile.cuh"
#include "kernels/common/early_launch.cuh"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

// Issues the bulk copies of an item's keys or values, from the last tile to the first. A lane
// issues one copy per tile: of a KV block, or of the tile's part of one.
template <int kHead>
class TileCopies {
  using Shared = WgmmaShared<kHead>;
  static constexpr int kKeys = Shared::kKeys;

 public:
  __device__ TileCopies(const WgmmaPrefillParams& params, const TensorMap& map, int block_heads)
      : p_(params),
        map_(map),
        block_heads_(block_heads),
        token_((threadIdx.x % 32) << p_.copy_bits) {}

  __device__ void start(const AttentionItem& item) {
    const PagedAttentionParams& a = p_.launch.attention;
    table_ = a.block_tables + item.sequence * a.block_tables_stride;
    begin_ = item.begin;
    end_ = item.end;
    kv_head_ = item.kv_head;
    next_ = find_block((item.end - 1) / kKeys);
  }

  // Starts the copies of a tile, and looks up the KV blocks of the tile before it.
  __device__ void copy(int tile, unsigned to, unsigned barrier) {
    const int block = next_;
    next_ = find_block(tile - 1);
    if (token_ >= kKeys) return;
    const int slot = (tile * kKeys + token_) & ((1 << p_.block_bits) - 1);
    // Copying a head outside of the tensor fills with zeros.
    const int head = block < 0 ? -1 : block * block_heads_ + kv_head_;
    copy_box(to + token_ * 2 * kHead, map_, barrier, 0, 0, 0, slot / 8, head);
  }

 private:
  // The lane's KV block, or -1 if no row attends to a key of its copy.
  __device__ int find_block(int tile) const {
    const int token = tile * kKeys + token_;
    const bool seen = token_ < kKeys && token < end_ && token + (1 << p_.copy_bits) > begin_;
    return seen ? __ldg(table_ + (token >> p_.block_bits)) : -1;
  }

  const WgmmaPrefillParams& p_;
  const TensorMap& map_;
  const int block_heads_;
  const int token_;  // of a tile, where the lane's copy begins
  const int* table_ = nullptr;
  int begin_ = 0, end_ = 0, kv_head_ = 0, next_ = 0;
};

__device__ inline AttentionItem find_item(const WgmmaPrefillParams& p, int index) {
  const int kv_heads = static_cast<int>(p.launch.attention.kv_heads);
  AttentionItem item{};
  if (index / kv_heads < num_prefill_items(p.launch.items)) {
    item = read_item(p.launch.items, 1 + index / kv_heads);
  }
  item.kv_head = index % kv_heads;
  return item;
}

// Run by one warp: copies an item's keys.
template <int kHead>
__device__ __forceinline__ void load_keys_of(const AttentionItem& item,
                                             const WgmmaShared<kHead>& shared,
                                             TileCopies<kHead>& copies,
                                             Ring<WgmmaShared<kHead>::kStages>& ring) {
  using Shared = WgmmaShared<kHead>;
  for (int tile = Shared::last_tile(item); tile >= Shared::first_tile(item); --tile) {
    wait(shared.keys_empty(ring.stage), ring.parity);
    if (threadIdx.x % 32 == 0) arrive_and_expect(shared.keys_full(ring.stage), Shared::kTileBytes);
    __syncwarp();
    copies.copy(tile, shared.keys(ring.stage), shared.keys_full(ring.stage));
    ring.advance();
  }
}

// Run by one warp. CTAs draw items by an atomic ticket counter, longest first, so that all CTAs end
// at about the same time.
template <int kHead>
__device__ void load_keys(const WgmmaPrefillParams& p, const WgmmaShared<kHead>& shared) {
  using Shared = WgmmaShared<kHead>;
  const int lane = threadIdx.x % 32, blocks = static_cast<int>(gridDim.x);
  TileCopies<kHead> copies(p, p.keys, p.key_block_heads);
  Ring<Shared::kStages> ring{0, 1};
  int index = blockIdx.x;
  for (unsigned parity = 1;; parity ^= 1) {
    const AttentionItem item = find_item(p, index);
    wait(shared.item_empty(), parity);
    if (lane == 0) {
      *shared.item = item;
      arrive(shared.item_full());
    }
    if (item.rows == 0) break;
    int ticket = 0;
    if (lane == 0) ticket = atomicAdd(p.tickets, 1);
    copies.start(item);
    load_keys_of(item, shared, copies, ring);
    index = blocks + __shfl_sync(kFullWarp, ticket, 0);
  }
  allow_kernels_after();
  if (lane == 0) {
    __threadfence();
    // Reset for the next launch.
    if (atomicAdd(p.tickets + 1, 1) == blocks - 1) p.tickets[0] = p.tickets[1] = 0;
  }
}

// Fills rows [begin, end) of a tile with zeros.
template <int kHead>
__device__ void clear_rows(unsigned tile, int begin, int end) {
  using Rows = WgmmaRows<kHead>;
  for (int i = threadIdx.x % 32; i < (end - begin) * Rows::kSegments; i += 32) {
    const unsigned to = tile + Rows::offset(begin + i / Rows::kSegments, i % Rows::kSegments);
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
  }
}

// Run by one warp: copies an item's values. landed_parity: of values_landed.
template <int kHead>
__device__ __forceinline__ void load_values_of(
    const WgmmaPrefillParams& p, const AttentionItem& item, const WgmmaShared<kHead>& shared,
    TileCopies<kHead>& copies, Ring<WgmmaShared<kHead>::kStages>& ring, unsigned& landed_parity) {
  using Shared = WgmmaShared<kHead>;
  constexpr int kKeys = Shared::kKeys;
  const int lane = threadIdx.x % 32, copied = 1 << p.copy_bits;
  for (int tile = Shared::last_tile(item); tile >= Shared::first_tile(item); --tile) {
    const unsigned full = shared.values_full(ring.stage), to = shared.values(ring.stage);
    // The first and the last copy may include slots that no row attends to. They may contain NaN,
    // and 0 * NaN is not 0: clear them.
    const int begin = max(item.begin - tile * kKeys, 0), end = min(item.end - tile * kKeys, kKeys);
    const bool whole = ((begin | end) & (copied - 1)) == 0;
    const unsigned barrier = whole ? full : shared.values_landed();
    wait(shared.values_empty(ring.stage), ring.parity);
    if (lane == 0) arrive_and_expect(barrier, Shared::kTileBytes);
    __syncwarp();
    copies.copy(tile, to, barrier);
    if (!whole) {
      wait(barrier, landed_parity);
      landed_parity ^= 1;
      clear_rows<kHead>(to, begin & -copied, begin);
      clear_rows<kHead>(to, end, (end + copied - 1) & -copied);
      publish_to_async_proxy();
      __syncwarp();
      if (lane == 0) arrive(full);
    }
    ring.advance();
  }
}

// Run by one warp.
template <int kHead>
__device__ void load_values(const WgmmaPrefillParams& p, const WgmmaShared<kHead>& shared) {
  TileCopies<kHead> copies(p, p.values, p.value_block_heads);
  Ring<WgmmaShared<kHead>::kStages> ring{0, 1};
  unsigned landed_parity = 0;
  ItemReader<kHead> items;
  for (;;) {
    const AttentionItem item = items.next(shared);
    if (item.rows == 0) break;
    copies.start(item);
    load_values_of(p, item, shared, copies, ring, landed_parity);
  }
}

// Copies query rows. Run by two warps, whose threads are numbered 0 to 63.
template <typename T, int kHead>
class QueryCopies {
  using Rows = WgmmaRows<kHead>;
  static constexpr int kAtOnce = 64 / Rows::kSegments;  // rows

 public:
  __device__ QueryCopies(const WgmmaPrefillParams& params, const WgmmaShared<kHead>& to, int thread)
      : p_(params),
        shared_(to),
        segment_(thread % Rows::kSegments),
        first_row_(thread / Rows::kSegments),
        heads_(kAtOnce % p_.group),
        step_(kAtOnce / p_.group * p_.launch.attention.query_token_stride +
              heads_ * p_.launch.attention.query_head_stride),
        carry_(p_.launch.attention.query_token_stride -
               p_.group * p_.launch.attention.query_head_stride) {}

  // Loads the item's rows of one warpgroup, then those of the other.
  __device__ __forceinline__ void load(const AttentionItem& item, unsigned parity) const {
    const PagedAttentionParams& a = p_.launch.attention;
    for (int group = 0; group < 2; ++group) {
      int row = group * kWgmmaRows + first_row_;
      const int end = (group + 1) * kWgmmaRows;
      const int token = (item.row + row) / p_.group;
      int head = (item.row + row) % p_.group;
      const T* from = static_cast<const T*>(a.query) + (item.token + token) * a.query_token_stride +
                      (item.kv_head * p_.group + head) * a.query_head_stride + 8 * segment_;
      wait(shared_.query_empty(group), parity);
      if (first_row_ < kAtOnce) {
#pragma unroll 1
        for (; row < end; row += kAtOnce) {
          copy_16_bytes(shared_.query + Rows::offset(row, segment_), from, row < item.rows);
          from += step_;
          head += heads_;
          if (head >= p_.group) {
            head -= p_.group;
            from += carry_;
          }
        }
      }
      copies_commit();
      copies_wait<0>();
      publish_to_async_proxy();
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(shared_.query_full(group));
    }
  }

 private:
  const WgmmaPrefillParams& p_;
  const WgmmaShared<kHead>& shared_;
  const int segment_, first_row_;
  // To get from a row to the thread's next one: add `step`, and if that passes the last head of the
  // group, add `carry`.
  const int heads_;
  const i64 step_, carry_;
};

// Run by two warps, whose threads are numbered 0 to 63.
template <typename T, int kHead>
__device__ void load_queries(const WgmmaPrefillParams& p, const WgmmaShared<kHead>& shared,
                             int thread) {
  const QueryCopies<T, kHead> copies(p, shared, thread);
  ItemReader<kHead> items;
  for (unsigned parity = 1;; parity ^= 1) {
    const AttentionItem item = items.next(shared);
    if (item.rows == 0) break;
    copies.load(item, parity);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
