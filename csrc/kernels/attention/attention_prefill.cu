// Causal prefill attention over a paged KV cache: many query rows of a sequence, as in
// FlashAttention-2 (Dao 2023, arXiv:2307.08691), with mma.sync.
//
// A CTA (thread block) computes up to 128 rows of one KV head (PrefillShape). The query heads of
// that KV head are adjacent rows, so that grouped heads read keys and values once. Tiles of keys
// and values are copied to shared memory, from the last to the first, while others are multiplied.
#include "kernels/attention/attention_prefill_load.cuh"
#include "kernels/attention/attention_prefill_rows.cuh"
#include "kernels/common/early_launch.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 750

// The part of an item that this CTA computes: its rows for one KV head, and the keys that these
// rows attend to.
__device__ inline AttentionItem read_part(const AttentionLaunchParams& p, int rows) {
  const int kv_heads = static_cast<int>(p.attention.kv_heads), parts = kPrefillRows / rows;
  const int index = blockIdx.x / kv_heads;
  AttentionItem item{};
  if (index / parts >= num_prefill_items(p.items)) return item;
  item = read_item(p.items, 1 + index / parts);
  const int before = index % parts * rows;
  item.kv_head = blockIdx.x % kv_heads;
  item.row += before;
  item.rows = min(item.rows - before, rows);
  item.first_slot += before / kDecodeRows * item.splits;
  if (parts == 1 || item.rows <= 0) return item;
  item.begin = max(item.begin, place_row(p.attention, item, 0, item.row).first);
  item.end = min(item.end, place_row(p.attention, item, 0, item.row + item.rows - 1).last);
  return item;
}

// An item's rows in one CTA. Tiles of keys are processed from the last to the first; only the first
// and the last ones processed can need a mask. Values are copied while keys are multiplied, and the
// next keys while values are multiplied.
template <typename T, int kHead>
class PrefillBlock {
  static constexpr PrefillShape kShape = prefill_shape(kHead);
  static constexpr int kKeys = kShape.keys, kThreads = 32 * kShape.warps;
  static constexpr int kWarpRows = 16 * kShape.strips;
  static constexpr int kNoWindow = 1 << 30;
  using Shared = SharedRows<kHead>;

 public:
  static constexpr int kRows = kShape.rows();
  using Rows = PrefillRows<T, kHead, kKeys, kShape.strips>;

  // shared: the address of prefill_shared_bytes.
  __device__ PrefillBlock(const PagedAttentionParams& params, const AttentionItem& item,
                          unsigned shared)
      : p_(params),
        item_(item),
        scoring_(params),
        warp_row_(__shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / 32, 0) * kWarpRows),
        window_(params.sliding_window > 0 ? static_cast<int>(params.sliding_window) : kNoWindow),
        lowest_(position_of(warp_row_)),
        highest_(position_of(warp_row_ + kWarpRows - 1)),
        query_(shared),
        keys_(shared + kRows * Shared::kPitch),
        values_(keys_ + kKeys * Shared::kPitch) {}

  // careful: raises the softmax base after every tile. Without it, results may overflow;
  // rows.wild() reports that, and the caller starts again with it.
  __device__ __forceinline__ void attend(Rows& rows, bool careful) const {
    rows.clear();
    PagedTiles<T, kHead, kKeys, kThreads> tiles(p_, item_);
    const int first = item_.begin / kKeys, last = (item_.end - 1) / kKeys;
    const unsigned query = Rows::query_part(query_ + warp_row_ * Shared::kPitch);
    const bool idle = warp_row_ >= item_.rows;
    tiles.look_up(last);
    copy_query<T, kHead, kRows, kThreads>(p_, item_, query_);
    tiles.copy_keys(last, keys_);
    copies_commit();
    tiles.look_up(last - 1);
    for (int tile = last; tile >= first; --tile) {
      copies_wait<0>();
      __syncthreads();  // the keys have been copied, and all warps have read the old values
      if (tile == last) rows.hold_query(query);
      tiles.copy_values(tile, values_);
      copies_commit();
      const int begin = tile * kKeys;
      const bool seen = !idle && begin <= highest_ && begin + kKeys > lowest_ - window_ + 1;
      float scale = scoring_.scale;
      if (seen) {
        rows.multiply_keys(query, Rows::key_part(keys_));
        if (scoring_.cap > 0.0f) {
          rows.cap(scoring_);
          scale = scoring_.cap;
        } else if (scale <= 0.0f) {  // then the maximum product is not the maximum score
          rows.for_each_score([&](float& score, int, int, int) { score *= scale; });
          scale = 1.0f;
        }
        const bool windowed = begin <= highest_ - window_;
        if (begin + kKeys > lowest_ + 1 || windowed) mask(begin, rows);
        // Otherwise all rows have seen later keys, and so have a base.
        if (careful || windowed || tile == last || begin + kKeys > lowest_) rows.raise_base(scale);
      }
      copies_wait<0>();
      __syncthreads();  // the values have been copied, and all warps have read the keys
      tiles.copy_keys(tile - 1, keys_);
      copies_commit();
      tiles.look_up(tile - 2);
      if (seen) rows.multiply_values(scale, Rows::value_part(values_));
    }
  }

 private:
  __device__ __forceinline__ void mask(int begin, Rows& rows) const {
    const int lane = threadIdx.x % 32;
    int last[kShape.strips][2];  // the last key that a row attends to, from the lane's first column
#pragma unroll
    for (int s = 0; s < kShape.strips; ++s) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        last[s][row] =
            position_of(warp_row_ + 16 * s + lane / 4 + 8 * row) - begin - 2 * (lane % 4);
      }
    }
    rows.mask_after(last);
    if (window_ < kNoWindow) rows.mask_before(last, window_);
  }

  // The position of a row's token in the sequence. Rows beyond the item's end repeat its last row.
  __device__ int position_of(int row) const {
    return item_.position + (item_.row + min(row, item_.rows - 1)) / group_of(p_);
  }

  const PagedAttentionParams& p_;
  const AttentionItem& item_;
  const Scoring scoring_;
  const int warp_row_;                    // the warp's first row in the item
  const int window_;                      // the sliding window, or kNoWindow
  const int lowest_;                      // position of the warp's first row
  const int highest_;                     // and of its last
  const unsigned query_, keys_, values_;  // in shared memory
};

// Writes the results after the last tile of keys.
template <typename T, int kHead>
class PrefillResults {
  static constexpr PrefillShape kShape = prefill_shape(kHead);
  using Rows = typename PrefillBlock<T, kHead>::Rows;

 public:
  __device__ PrefillResults(const AttentionLaunchParams& params, const AttentionItem& item)
      : p_(params),
        a_(params.attention),
        item_(item),
        warp_row_(static_cast<int>(threadIdx.x) / 32 * 16 * kShape.strips) {}

  __device__ __forceinline__ void write(Rows& rows) const {
    const int lane = threadIdx.x % 32;
    const int group = group_of(a_);
#pragma unroll
    for (int s = 0; s < kShape.strips; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = warp_row_ + 16 * s + 8 * i + lane / 4;
        const int token = (item_.row + row) / group;
        const RowPlace place{item_.token + token,
                             item_.kv_head * group + item_.row + row - token * group, 0, 0};
        T* to = row < item_.rows ? out_row<T>(a_, place) : nullptr;
        const float scale = __fdividef(1.0f, quad_sum(rows.sum[s][i]));
        unsigned words[kHead / 8];
#pragma unroll
        for (int n = 0; n < kHead / 8; ++n) {
          words[n] =
              from_floats<T>(rows.out[s][n][2 * i] * scale, rows.out[s][n][2 * i + 1] * scale);
        }
        write_row(to, words);
      }
    }
  }

  // For an item that is split over keys: writes a partial result. The last CTA to do so for these
  // rows adds up all of them.
  __device__ __forceinline__ void write_partials(Rows& rows) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int s = 0; s < kShape.strips; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float sum = quad_sum(rows.sum[s][i]);
        const AttentionItem part =
            row_group(item_, item_.kv_head, (warp_row_ + 16 * s) / kDecodeRows + i);
        const i64 at = static_cast<i64>(slot_of(part)) * kDecodeRows + lane / 4;
        if (lane / 4 >= part.rows) continue;
        float2* to = reinterpret_cast<float2*>(p_.partials + at * kHead) + lane % 4;
#pragma unroll
        for (int n = 0; n < kHead / 8; ++n) {
          to[4 * n] = make_float2(rows.out[s][n][2 * i], rows.out[s][n][2 * i + 1]);
        }
        if (lane % 4 == 0) {
          reinterpret_cast<float2*>(p_.weights)[at] = make_float2(rows.base[s][i], sum);
        }
      }
    }
    if (!is_last(p_, row_group(item_, item_.kv_head, 0).first_slot, item_.splits)) return;
#pragma unroll 1
    for (int group = 0; kDecodeRows * group < item_.rows; ++group) {
      const AttentionItem part = row_group(item_, item_.kv_head, group);
      add_up<T>(p_, part, part.first_slot, item_.splits, kFinal, kHead);
    }
  }

  const AttentionLaunchParams& p_;
  const PagedAttentionParams& a_;
  const AttentionItem& item_;
  const int warp_row_;
};

template <typename T, int kHead>
__device__ void paged_prefill(const AttentionLaunchParams& p) {
  extern __shared__ __align__(512) unsigned char shared[];
  using Block = PrefillBlock<T, kHead>;
  wait_for_kernels_before();
  typename Block::Rows rows;
  {
    const AttentionItem item = read_part(p, Block::kRows);
    if (item.rows <= 0) return;
    const Block block(p.attention, item, shared_address(shared));
    for (bool careful = !kWide<T>;; careful = true) {
      block.attend(rows, careful);
      if (careful || !__syncthreads_or(rows.wild())) break;
    }
  }
  allow_kernels_after();
  const AttentionItem item = read_part(p, Block::kRows);  // read again, to save registers
  const PrefillResults<T, kHead> results(p, item);
  if (item.splits > 1) {
    results.write_partials(rows);
  } else {
    results.write(rows);
  }
}

#endif  // __CUDA_ARCH__ >= 750

}  // namespace vllm

#define VLLM_PAGED_PREFILL(name, T, head)                                                    \
  extern "C" __global__ void __launch_bounds__(32 * vllm::prefill_shape(head).warps,         \
                                               vllm::prefill_shape(head).blocks)             \
      paged_prefill_##name##_##head(__grid_constant__ const vllm::AttentionLaunchParams p) { \
    vllm::paged_prefill<T, head>(p);                                                         \
  }
#define VLLM_PAGED_PREFILL_HEADS(name, T) \
  VLLM_PAGED_PREFILL(name, T, 64)         \
  VLLM_PAGED_PREFILL(name, T, 80)         \
  VLLM_PAGED_PREFILL(name, T, 96)         \
  VLLM_PAGED_PREFILL(name, T, 128)        \
  VLLM_PAGED_PREFILL(name, T, 192)        \
  VLLM_PAGED_PREFILL(name, T, 256)

#if __CUDA_ARCH__ >= 750
VLLM_PAGED_PREFILL_HEADS(f16, vllm::Half)
#else
// A module must have a kernel: in one without, NVRTC generates names from its process id, and
// builds would not be reproducible.
extern "C" __global__ void no_tensor_cores() {}
#endif
#if __CUDA_ARCH__ >= 800
VLLM_PAGED_PREFILL_HEADS(bf16, vllm::BFloat16)
#endif
