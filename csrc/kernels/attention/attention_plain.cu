// The fallback attention kernel, for what the faster kernels do not support: float32, other head
// sizes and layouts, and GPUs without tensor cores. It reads the same items.
//
// A warp processes 32 keys at a time, one per lane, for 8 rows. A lane computes the scores of its
// key; then the warp adds up the values, with the elements of a head distributed over the lanes.
#include "kernels/attention/attention_item.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/reduce.cuh"

namespace vllm {

constexpr int kMaxHead = 256;
constexpr int kHeadParts = kMaxHead / 32;  // elements of a head that a lane adds up

struct PlainShared {
  float query[kDecodeRows][kMaxHead];
  float results[kAttentionWarps][kMaxHead];  // of one row
  float2 weights[kAttentionWarps][kDecodeRows];
};

// A token's keys or values of one KV head.
template <typename T>
__device__ const T* token_row(const void* cache, const int* table, int token, i64 block_size,
                              i64 block_stride, i64 slot_stride) {
  const i64 block = table[token / block_size], slot = token % block_size;
  return static_cast<const T*>(cache) + block * block_stride + slot * slot_stride;
}

// Computes up to 8 rows of an item. All threads of the CTA call it.
template <typename T>
__device__ void attend(const AttentionLaunchParams& p, const AttentionItem& item,
                       PlainShared& shared) {
  const PagedAttentionParams& a = p.attention;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int head_size = static_cast<int>(a.head_size);
  const int* table = a.block_tables + item.sequence * a.block_tables_stride;
  const T* keys = static_cast<const T*>(a.key_cache) + item.kv_head * a.key_head_stride;
  const T* values = static_cast<const T*>(a.value_cache) + item.kv_head * a.value_head_stride;
  const Scoring scoring(a);

  __syncthreads();  // all threads have finished the previous item
  for (int row = warp; row < item.rows; row += kAttentionWarps) {
    const RowPlace place = place_row(a, item, item.kv_head, item.row + row);
    const T* query = static_cast<const T*>(a.query) + place.token * a.query_token_stride +
                     place.head * a.query_head_stride;
    for (int d = lane; d < head_size; d += 32) shared.query[row][d] = to_float(query[d]);
  }
  __syncthreads();

  float greatest[kDecodeRows], sum[kDecodeRows], out[kDecodeRows][kHeadParts];
#pragma unroll
  for (int row = 0; row < kDecodeRows; ++row) {
    greatest[row] = lowest_score();
    sum[row] = 0.0f;
#pragma unroll
    for (int part = 0; part < kHeadParts; ++part) out[row][part] = 0.0f;
  }

  for (int begin = item.begin + 32 * warp; begin < item.end; begin += 32 * kAttentionWarps) {
    const int token = begin + lane;
    float weight[kDecodeRows];
#pragma unroll
    for (int row = 0; row < kDecodeRows; ++row) weight[row] = 0.0f;
    if (token < item.end) {
      const T* key =
          token_row<T>(keys, table, token, a.block_size, a.key_block_stride, a.key_slot_stride);
      for (int d = 0; d < head_size; ++d) {
        const float element = to_float(key[d]);
#pragma unroll
        for (int row = 0; row < kDecodeRows; ++row) weight[row] += shared.query[row][d] * element;
      }
    }
#pragma unroll
    for (int row = 0; row < kDecodeRows; ++row) {
      const RowPlace place = place_row(a, item, item.kv_head, item.row + row);
      const bool seen =
          row < item.rows && token >= place.first && token < place.last && token < item.end;
      const float score = seen ? scoring(weight[row]) : lowest_score();
      const float now = fmaxf(greatest[row], warp_max(score));
      const float base = now == lowest_score() ? 0.0f : now;
      const float before = exp2f(greatest[row] - base);
      greatest[row] = now;
      weight[row] = exp2f(score - base);
      sum[row] = sum[row] * before + weight[row];
#pragma unroll
      for (int part = 0; part < kHeadParts; ++part) out[row][part] *= before;
    }
    const int count = min(32, item.end - begin);
    for (int i = 0; i < count; ++i) {
      const T* value = token_row<T>(values, table, begin + i, a.block_size, a.value_block_stride,
                                    a.value_slot_stride);
#pragma unroll
      for (int part = 0; part < kHeadParts; ++part) {
        const int d = 32 * part + lane;
        if (32 * part >= head_size) break;
        const float element = d < head_size ? to_float(value[d]) : 0.0f;
#pragma unroll
        for (int row = 0; row < kDecodeRows; ++row) {
          const float factor = __shfl_sync(kFullWarp, weight[row], i);
          // Skips masked tokens: their values may be NaN.
          if (factor != 0.0f) out[row][part] += factor * element;
        }
      }
    }
  }

#pragma unroll
  for (int row = 0; row < kDecodeRows; ++row) {
    sum[row] = warp_sum(sum[row]);
    if (lane == 0) shared.weights[warp][row] = make_float2(greatest[row], sum[row]);
  }
  __syncthreads();
#pragma unroll
  for (int row = 0; row < kDecodeRows; ++row) {
    if (row >= item.rows) break;
    float most = lowest_score(), total = 0.0f;
    for (int w = 0; w < kAttentionWarps; ++w) most = fmaxf(most, shared.weights[w][row].x);
    for (int w = 0; w < kAttentionWarps; ++w) {
      const float2 weight = shared.weights[w][row];
      if (weight.x != lowest_score()) total += weight.y * exp2f(weight.x - most);
    }
    const float factor = greatest[row] == lowest_score() ? 0.0f : exp2f(greatest[row] - most);
#pragma unroll
    for (int part = 0; part < kHeadParts; ++part) {
      shared.results[warp][32 * part + lane] = out[row][part] * factor;
    }
    __syncthreads();
    for (int quad = threadIdx.x; quad < head_size / 4; quad += kAttentionThreads) {
      float4 added = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      for (int w = 0; w < kAttentionWarps; ++w) {
        const float* from = shared.results[w] + 4 * quad;
        added.x += from[0], added.y += from[1], added.z += from[2], added.w += from[3];
      }
      write_quad<T>(p, item, slot_of(item), row, quad, head_size, added, most, total);
    }
    __syncthreads();
  }
}

// Processes the list of items of a CTA.
template <typename T>
__device__ void paged_decode(const AttentionLaunchParams& p) {
  wait_for_kernels_before();
  __shared__ PlainShared shared;
  for (int index = blockIdx.x; index >= 0;) {
    const AttentionItem item = read_item(p.items, index);
    index = item.next;
    attend<T>(p, item, shared);
    if (item.splits > 1) merge_splits<T>(p, item, static_cast<int>(p.attention.head_size));
  }
}

// Processes one item, for KV head blockIdx.y, 8 rows at a time.
template <typename T>
__device__ void paged_prefill(const AttentionLaunchParams& p) {
  wait_for_kernels_before();
  __shared__ PlainShared shared;
  if (blockIdx.x >= num_prefill_items(p.items)) return;
  const AttentionItem item = read_item(p.items, 1 + blockIdx.x);
  for (int row = 0; row < item.rows; row += kDecodeRows) {
    const AttentionItem part = row_group(item, blockIdx.y, row / kDecodeRows);
    attend<T>(p, part, shared);
    if (part.splits > 1) merge_splits<T>(p, part, static_cast<int>(p.attention.head_size));
  }
}

}  // namespace vllm

#define VLLM_PAGED_PLAIN(name, T)                                                   \
  extern "C" __global__ void __launch_bounds__(vllm::kAttentionThreads)             \
      paged_decode_##name(__grid_constant__ const vllm::AttentionLaunchParams p) {  \
    vllm::paged_decode<T>(p);                                                       \
  }                                                                                 \
  extern "C" __global__ void __launch_bounds__(vllm::kAttentionThreads)             \
      paged_prefill_##name(__grid_constant__ const vllm::AttentionLaunchParams p) { \
    vllm::paged_prefill<T>(p);                                                      \
  }

VLLM_PAGED_PLAIN(f32, float)
VLLM_PAGED_PLAIN(f16, vllm::Half)
VLLM_PAGED_PLAIN(bf16, vllm::BFloat16)
