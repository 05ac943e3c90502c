// Prefill attention over a paged cache: many query rows of a sequence against its keys, causal, as
// in FlashAttention-2 (Dao 2023, arXiv:2307.08691).
//
// A block takes 64 rows, 16 a warp, of one KV head: the query heads that share it are rows beside
// each other, so that grouped heads read keys and values once. Tiles of keys and values go through
// shared memory, the next ones copied while these are multiplied.
#include "kernels/attention/attention_item.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 750

// Copies keys or values of tokens [token, token + kTokens) of a sequence into shared memory, and
// zeros for those outside of [begin, end).
template <typename T, int kHead, int kTokens>
__device__ void copy_tile(const PagedAttentionParams& p, const int* table, const T* from,
                          i64 block_stride, i64 slot_stride, int token, int begin, int end,
                          unsigned to) {
  using Rows = SharedRows<kHead>;
  const int block_size = static_cast<int>(p.block_size);
  for (int index = threadIdx.x; index < kTokens * Rows::kSegments; index += kAttentionThreads) {
    const int row = index / Rows::kSegments, segment = index % Rows::kSegments;
    const int at = token + row;
    const bool valid = at >= begin && at < end;
    const T* source = from;
    if (valid) {
      const i64 block = __ldg(table + at / block_size);
      source += block * block_stride + at % block_size * slot_stride + segment * 8;
    }
    copy_16_bytes(to + Rows::offset(row, segment), source, valid);
  }
}

// The half of an item's rows that this block does, and the keys that these see.
__device__ inline AttentionItem half_of(AttentionItem item, const PagedAttentionParams& p) {
  constexpr int kRows = kPrefillRows / 2;
  const int before = blockIdx.x % 2 * kRows;
  item.row += before;
  item.rows = min(item.rows - before, kRows);
  item.begin = max(item.begin, place_row(p, item, 0, item.row).first);
  item.end = min(item.end, place_row(p, item, 0, item.row + item.rows - 1).last);
  item.first_slot += before / kDecodeRows * item.splits;
  return item;
}

template <typename T, int kHead>
__device__ void paged_prefill(const AttentionLaunchParams& p) {
  wait_for_kernels_before();
  using Rows = SharedRows<kHead>;
  constexpr int kKeys = prefill_keys(kHead);
  constexpr int kTileBytes = kKeys * Rows::kPitch;
  constexpr int kStages = __CUDA_ARCH__ >= 800 ? 2 : 1;
  extern __shared__ __align__(128) unsigned char shared[];
  const unsigned tiles = shared_address(shared);  // keys of each stage, then values of each
  const PagedAttentionParams& a = p.attention;
  const int index = blockIdx.x / 2;
  if (index >= num_prefill_items(p.items)) return;
  const AttentionItem item = half_of(read_item(p.items, 1 + index), p.attention);
  if (item.rows <= 0) return;
  const int kv_head = blockIdx.y;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int* table = a.block_tables + item.sequence * a.block_tables_stride;
  const T* keys = static_cast<const T*>(a.key_cache) + kv_head * a.key_head_stride;
  const T* values = static_cast<const T*>(a.value_cache) + kv_head * a.value_head_stride;
  const Scoring scoring(a);

  const auto copy_keys = [&](int token, int stage) {
    copy_tile<T, kHead, kKeys>(a, table, keys, a.key_block_stride, a.key_slot_stride, token,
                               item.begin, item.end, tiles + stage * kTileBytes);
    copies_commit();
  };
  const auto copy_values = [&](int token, int stage) {
    copy_tile<T, kHead, kKeys>(a, table, values, a.value_block_stride, a.value_slot_stride, token,
                               item.begin, item.end, tiles + (kStages + stage) * kTileBytes);
    copies_commit();
  };

  // A lane holds parts of rows lane / 4 and lane / 4 + 8 of its warp's 16.
  RowPlace places[2];
  unsigned query[kHead / 16][4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = 16 * warp + lane / 4 + 8 * i;
    places[i] = place_row(a, item, kv_head, item.row + row);
    const bool exists = row < item.rows;
    if (!exists) places[i].first = places[i].last = 0;  // it sees nothing
    const T* from = static_cast<const T*>(a.query) + places[i].token * a.query_token_stride +
                    places[i].head * a.query_head_stride + 2 * (lane % 4);
#pragma unroll
    for (int k = 0; k < kHead / 16; ++k) {
      query[k][i] = exists ? *reinterpret_cast<const unsigned*>(from + 16 * k) : 0u;
      query[k][i + 2] = exists ? *reinterpret_cast<const unsigned*>(from + 16 * k + 8) : 0u;
    }
  }
  float greatest[2] = {lowest_score(), lowest_score()}, sum[2] = {0.0f, 0.0f};
  float out[kHead / 8][4];
#pragma unroll
  for (auto& tile : out) tile[0] = tile[1] = tile[2] = tile[3] = 0.0f;

  const int first_tile = item.begin / kKeys, last_tile = (item.end + kKeys - 1) / kKeys;
  if (kStages > 1) {
    copy_keys(first_tile * kKeys, 0);
    copy_values(first_tile * kKeys, 0);
  }
  for (int tile = first_tile; tile < last_tile; ++tile) {
    const int token = tile * kKeys;
    const int stage = kStages > 1 ? (tile - first_tile) % 2 : 0;
    if (kStages > 1) {
      // Empty beyond the last tile: the number of groups in flight is always the same.
      const int next = tile + 1 < last_tile ? token + kKeys : item.end;
      copy_keys(next, stage ^ 1);
      copy_values(next, stage ^ 1);
      copies_wait<2>();
    } else {
      copy_keys(token, 0);
      copy_values(token, 0);
    }
    __syncthreads();

    const unsigned key_tile = tiles + stage * kTileBytes;
    const unsigned value_tile = tiles + (kStages + stage) * kTileBytes;
    float scores[kKeys / 8][4];
#pragma unroll
    for (auto& score : scores) score[0] = score[1] = score[2] = score[3] = 0.0f;
#pragma unroll
    for (int k = 0; k < kHead / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        // Keys 16 n and on as the second operand: matrices (keys, elements) (0, 0), (0, 1), (1, 0),
        // (1, 1) of 8 each.
        unsigned matrices[4];
        const int row = 16 * n + lane % 8 + lane / 16 * 8;
        load_matrices(matrices, key_tile + Rows::offset(row, 2 * k + lane / 8 % 2));
        multiply_add<T>(scores[2 * n], query[k], matrices[0], matrices[1]);
        multiply_add<T>(scores[2 * n + 1], query[k], matrices[2], matrices[3]);
      }
    }
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = token + 8 * n + 2 * (lane % 4) + i % 2;
        const RowPlace& place = places[i / 2];
        const bool seen = key >= place.first && key < place.last;
        scores[n][i] = seen ? scoring(scores[n][i]) : lowest_score();
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float now = greatest[i];
#pragma unroll
      for (auto& score : scores) now = fmaxf(now, fmaxf(score[2 * i], score[2 * i + 1]));
      now = fmaxf(now, __shfl_xor_sync(kFullWarp, now, 1));
      now = fmaxf(now, __shfl_xor_sync(kFullWarp, now, 2));
      const float base = now == lowest_score() ? 0.0f : now;
      const float before = exp2_fast(greatest[i] - base);
      greatest[i] = now;
      float added = 0.0f;
#pragma unroll
      for (auto& score : scores) {
        score[2 * i] = exp2_fast(score[2 * i] - base);
        score[2 * i + 1] = exp2_fast(score[2 * i + 1] - base);
        added += score[2 * i] + score[2 * i + 1];
      }
      sum[i] = sum[i] * before + added;
#pragma unroll
      for (auto& element : out) {
        element[2 * i] *= before;
        element[2 * i + 1] *= before;
      }
    }
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      const unsigned weights[4] = {from_floats<T>(scores[2 * n][0], scores[2 * n][1]),
                                   from_floats<T>(scores[2 * n][2], scores[2 * n][3]),
                                   from_floats<T>(scores[2 * n + 1][0], scores[2 * n + 1][1]),
                                   from_floats<T>(scores[2 * n + 1][2], scores[2 * n + 1][3])};
#pragma unroll
      for (int d = 0; d < kHead / 16; ++d) {
        // Values as the second operand: matrices (keys, elements) (0, 0), (1, 0), (0, 1), (1, 1).
        unsigned matrices[4];
        const int row = 16 * n + lane % 16;
        load_matrices_transposed(matrices, value_tile + Rows::offset(row, 2 * d + lane / 16));
        multiply_add<T>(out[2 * d], weights, matrices[0], matrices[1]);
        multiply_add<T>(out[2 * d + 1], weights, matrices[2], matrices[3]);
      }
    }
    __syncthreads();  // the tiles are written next
  }

#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] += __shfl_xor_sync(kFullWarp, sum[i], 1);
    sum[i] += __shfl_xor_sync(kFullWarp, sum[i], 2);
    if (16 * warp + lane / 4 + 8 * i >= item.rows) continue;
    if (item.splits > 1) {
      const AttentionItem part = row_group(item, kv_head, 2 * warp + i);
      const i64 at = static_cast<i64>(slot_of(part)) * kDecodeRows + lane / 4;
      float2* values = reinterpret_cast<float2*>(p.partials + at * kHead) + lane % 4;
#pragma unroll
      for (int n = 0; n < kHead / 8; ++n)
        values[4 * n] = make_float2(out[n][2 * i], out[n][2 * i + 1]);
      if (lane % 4 == 0) {
        reinterpret_cast<float2*>(p.weights)[at] = make_float2(greatest[i], sum[i]);
      }
      continue;
    }
    const float scale = 1.0f / sum[i];
    T* to = out_row<T>(a, places[i]) + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < kHead / 8; ++n) {
      to[8 * n] = from_float<T>(out[n][2 * i] * scale);
      to[8 * n + 1] = from_float<T>(out[n][2 * i + 1] * scale);
    }
  }
  for (int g = 0; item.splits > 1 && kDecodeRows * g < item.rows; ++g) {
    merge_splits<T>(p, row_group(item, kv_head, g), kHead);
  }
}

#endif  // __CUDA_ARCH__ >= 750

}  // namespace vllm

#define VLLM_PAGED_PREFILL(name, T, head)                                                    \
  extern "C" __global__ void __launch_bounds__(vllm::kAttentionThreads)                      \
      paged_prefill_##name##_##head(__grid_constant__ const vllm::AttentionLaunchParams p) { \
    vllm::paged_prefill<T, head>(p);                                                         \
  }
#define VLLM_PAGED_PREFILL_HEADS(name, T) \
  VLLM_PAGED_PREFILL(name, T, 64)         \
  VLLM_PAGED_PREFILL(name, T, 80)         \
  VLLM_PAGED_PREFILL(name, T, 96)         \
  VLLM_PAGED_PREFILL(name, T, 128)        \
  VLLM_PAGED_PREFILL(name, T, 256)

#if __CUDA_ARCH__ >= 750
VLLM_PAGED_PREFILL_HEADS(f16, vllm::Half)
#else
// In a module without kernels NVRTC leaves names that hold the number of its process: no two builds
// would be alike.
extern "C" __global__ void no_tensor_cores() {}
#endif
#if __CUDA_ARCH__ >= 800
VLLM_PAGED_PREFILL_HEADS(bf16, vllm::BFloat16)
#endif
