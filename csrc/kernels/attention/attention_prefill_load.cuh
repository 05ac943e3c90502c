// How a CTA of the mma.sync prefill kernel copies query rows, keys and values to shared memory: 16
// bytes at a time; each thread copies the same columns of the same rows of every tile.
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 750

// How kThreads threads divide rows of kHead elements: 2, 4 or 8 adjacent threads copy a row, one
// segment of 16 bytes each per turn, so that each turn reads whole sectors of 32 bytes.
template <int kHead, int kThreads>
struct RowCopies {
  using Rows = SharedRows<kHead>;
  static constexpr int kLanes = Rows::kSegments % 8 == 0 ? 8 : Rows::kSegments % 4 == 0 ? 4 : 2;
  static constexpr int kTurns = Rows::kSegments / kLanes;
  static constexpr int kRows = kThreads / kLanes;  // per pass
  static_assert(Rows::kSegments % kLanes == 0 && kRows % 8 == 0, "offsets differ by a constant");

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kLanes; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) % kLanes * 8; }
  __device__ static unsigned offset() { return Rows::offset(row(), threadIdx.x % kLanes); }

  // Copies the thread's part of row row() + pass * kRows.
  template <typename T>
  __device__ __forceinline__ static void copy(unsigned to, int pass, const T* from, bool valid) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      copy_16_bytes(to + pass * kRows * Rows::kPitch + turn * kLanes * 16, from + turn * kLanes * 8,
                    valid);
    }
  }
};

// Copies tiles of kKeys keys or values of an item, and zeros for tokens outside of it: an unused
// slot may contain NaN, and 0 * NaN is not 0. A chunk of kChunk tokens is in one KV block. Keys and
// values have the same strides, so that offsets are computed once for both.
template <typename T, int kHead, int kKeys, int kThreads>
class PagedTiles {
  using Copies = RowCopies<kHead, kThreads>;
  static_assert(Copies::kRows % kChunk == 0 && kKeys % kChunk == 0, "whole chunks");
  static constexpr int kPasses = (kKeys + Copies::kRows - 1) / Copies::kRows;
  static constexpr bool kSomeIdle = kPasses * Copies::kRows > kKeys;

 public:
  __device__ PagedTiles(const PagedAttentionParams& p, const AttentionItem& item)
      : p_(p),
        table_(p.block_tables + item.sequence * p.block_tables_stride),
        keys_(static_cast<const T*>(p.key_cache) + item.kv_head * p.key_head_stride +
              Copies::row() % kChunk * p.key_slot_stride + Copies::column()),
        values_(static_cast<const T*>(p.value_cache) + item.kv_head * p.value_head_stride +
                Copies::row() % kChunk * p.key_slot_stride + Copies::column()),
        begin_(item.begin),
        count_(item.end - item.begin),
        chunks_(static_cast<unsigned>(p.block_size) / kChunk),
        inverse_(0x80000000u / chunks_ + 1) {}

  // Looks up the KV blocks of a tile, early enough that copy_keys need not wait for them.
  __device__ __forceinline__ void look_up(int tile) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      block_[pass] = sees(tile, pass) ? __ldg(table_ + block_of(chunk_of(tile, pass))) : 0;
    }
  }
  // Starts to copy the keys of the tile that was looked up last.
  __device__ __forceinline__ void copy_keys(int tile, unsigned to) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const unsigned chunk = chunk_of(tile, pass);
      const unsigned in_block = chunk - block_of(chunk) * chunks_;
      place_[pass] = block_[pass] * static_cast<unsigned>(p_.key_block_stride / kPack) +
                     in_block * static_cast<unsigned>(p_.key_slot_stride * kChunk / kPack);
    }
    copy(tile, to, keys_);
  }
  // Starts to copy the values of the tile whose keys were copied last.
  __device__ __forceinline__ void copy_values(int tile, unsigned to) const {
    copy(tile, to, values_);
  }

 private:
  static constexpr int kPack = 8;  // elements of 16 bytes

  __device__ static unsigned chunk_of(int tile, int pass) {
    const unsigned chunk = tile * (kKeys / kChunk) + pass * (Copies::kRows / kChunk);
    return Copies::kRows == kChunk ? chunk : chunk + Copies::row() / kChunk;
  }
  __device__ bool sees(int tile, int pass) const {
    const int token = tile * kKeys + pass * Copies::kRows + Copies::row();
    return static_cast<unsigned>(token - begin_) < count_;
  }

  // chunk / chunks_; exact where chunk * chunks_ < 2^31.
  __device__ unsigned block_of(unsigned chunk) const {
    return static_cast<unsigned>(static_cast<unsigned long long>(chunk) * inverse_ >> 31);
  }

  __device__ __forceinline__ void copy(int tile, unsigned to, const T* from) const {
    if (kSomeIdle && Copies::row() >= kKeys) return;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const uint4* at = reinterpret_cast<const uint4*>(from) + place_[pass];
      Copies::copy(to + Copies::offset(), pass, reinterpret_cast<const T*>(at), sees(tile, pass));
    }
  }

  const PagedAttentionParams& p_;
  const int* table_;
  const T* keys_;  // of the thread's columns, in block 0
  const T* values_;
  const int begin_;
  const unsigned count_;     // of tokens, from begin_ on
  const unsigned chunks_;    // of a KV block
  const unsigned inverse_;   // 2^31 / chunks_, rounded up
  unsigned block_[kPasses];  // the KV block of each pass of a tile
  unsigned place_[kPasses];  // its chunk's offset in the caches, in units of 16 bytes
};

// Copies an item's query rows, and zeros up to kRows.
template <typename T, int kHead, int kRows, int kThreads>
__device__ void copy_query(const PagedAttentionParams& p, const AttentionItem& item, unsigned to) {
  using Copies = RowCopies<kHead, kThreads>;
  const T* query = static_cast<const T*>(p.query) + Copies::column();
#pragma unroll 1
  for (int row = Copies::row(); row < kRows; row += Copies::kRows) {
    const RowPlace place = place_row(p, item, item.kv_head, item.row + min(row, item.rows - 1));
    Copies::copy(to + SharedRows<kHead>::offset(row, threadIdx.x % Copies::kLanes), 0,
                 query + place.token * p.query_token_stride + place.head * p.query_head_stride,
                 row < item.rows);
  }
}

#endif  // __CUDA_ARCH__ >= 750

}  // namespace vllm
