// The shared-memory layout of the wgmma prefill kernel.
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/common/bulk_copy.cuh"
#include "kernels/common/mbarrier.cuh"
#include "kernels/common/tensor_core.cuh"
#include "kernels/common/wgmma.cuh"
#include "params/attention_wgmma.h"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

// Rows of kHead 16-bit elements in groups of 8: for each group, the first kRowBytes of all 8 rows,
// then the next kRowBytes.
template <int kHead>
struct WgmmaRows {
  static constexpr int kRowBytes = wgmma_row_bytes(kHead);
  static constexpr int kPieceBytes = 8 * kRowBytes;
  static constexpr int kGroupBytes = 8 * 2 * kHead;
  static constexpr int kSegments = kHead / 8;  // of 16 bytes in a row

  // The offset of a 16-byte segment, with the swizzle of bulk copies.
  __device__ static unsigned offset(unsigned row, unsigned segment) {
    constexpr unsigned kInPiece = kRowBytes / 16;
    const unsigned swizzled = segment % kInPiece ^ row % 8 / (8 / kInPiece);
    return row / 8 * kGroupBytes + segment / kInPiece * kPieceBytes + row % 8 * kRowBytes +
           swizzled * 16;
  }
  // The offset of column 16 k, for the descriptor of a K-major matrix.
  __device__ static constexpr unsigned columns(int k) {
    return 32 * k / kRowBytes * kPieceBytes + 32 * k % kRowBytes;
  }
};

template <int kHead>
struct WgmmaShared {
  static constexpr int kKeys = wgmma_keys(kHead);
  static constexpr int kStages = wgmma_stages(kHead);
  static constexpr int kTileBytes = 2 * kHead * kKeys;
  static constexpr int kQueryBytes = 2 * kHead * 2 * kWgmmaRows;

  unsigned query, key_tiles, value_tiles, barriers;
  AttentionItem* item;  // the CTA's current item

  __device__ explicit WgmmaShared(unsigned char* shared) {
    const unsigned from = shared_address(shared);
    query = (from + 1023) & ~1023u;
    key_tiles = query + kQueryBytes;
    value_tiles = key_tiles + kStages * kTileBytes;
    const unsigned end = value_tiles + kStages * kTileBytes;
    item = reinterpret_cast<AttentionItem*>(shared + (end - from));
    barriers = end + sizeof(AttentionItem);
  }
  __device__ unsigned keys(int stage) const { return key_tiles + stage * kTileBytes; }
  __device__ unsigned values(int stage) const { return value_tiles + stage * kTileBytes; }

  __device__ static int first_tile(const AttentionItem& item) { return item.begin / kKeys; }
  __device__ static int last_tile(const AttentionItem& item) { return (item.end - 1) / kKeys; }

  // mbarriers. A buffer's `full` completes when the buffer may be read, its `empty` when it may be
  // filled.
  __device__ unsigned item_full() const { return barriers; }
  __device__ unsigned item_empty() const { return barriers + 8; }
  __device__ unsigned values_landed() const { return barriers + 16; }  // copied, not yet cleared
  __device__ unsigned query_full(int group) const { return barriers + 24 + 16 * group; }
  __device__ unsigned query_empty(int group) const { return query_full(group) + 8; }
  __device__ unsigned keys_full(int stage) const { return barriers + 56 + 32 * stage; }
  __device__ unsigned keys_empty(int stage) const { return keys_full(stage) + 8; }
  __device__ unsigned values_full(int stage) const { return keys_full(stage) + 16; }
  __device__ unsigned values_empty(int stage) const { return keys_full(stage) + 24; }

  static constexpr int kUsers = 8;         // warps that multiply
  static constexpr int kQueryLoaders = 2;  // warps

  __device__ void make_barriers() const {
    make_barrier(item_full(), 1);
    make_barrier(item_empty(), 32 * (kUsers + kQueryLoaders + 1));
    make_barrier(values_landed(), 1);
    for (int group = 0; group < 2; ++group) {
      make_barrier(query_full(group), kQueryLoaders);
      make_barrier(query_empty(group), kUsers / 2);
    }
    for (int stage = 0; stage < kStages; ++stage) {
      make_barrier(keys_full(stage), 1);
      make_barrier(keys_empty(stage), kUsers);
      make_barrier(values_full(stage), 1);
      make_barrier(values_empty(stage), kUsers);
    }
    publish_barriers();
  }
};

// Reads the CTA's items in a warp that does not choose them.
template <int kHead>
class ItemReader {
 public:
  // The next item; one without rows means the end.
  __device__ AttentionItem next(const WgmmaShared<kHead>& shared) {
    wait(shared.item_full(), parity_);
    const AttentionItem item = *shared.item;
    arrive(shared.item_empty());  // every lane arrives: each has read the item
    parity_ ^= 1;
    return item;
  }

 private:
  unsigned parity_ = 0;
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
