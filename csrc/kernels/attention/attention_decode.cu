// Decode attention over a paged KV cache: few query rows and many keys. It is designed to be bound
// by memory bandwidth.
//
// A CTA (thread block) processes a list of items (AttentionItem). Its warps divide the chunks of 16
// keys of an item among them round-robin, without synchronisation: each warp prefetches its chunks
// into shared memory, also those of the next item, and multiplies them on tensor cores. Scores are
// computed transposed,
//     scores^T [16 keys x 8 rows] = keys [16 x d] * query^T [d x 8 rows]
//     out^T    [d x 8 rows]      += values^T [d x 16 keys] * weights^T [16 keys x 8 rows]
// so that the 8 rows are the narrow side of an mma tile, and up to 8 query heads of a KV head need
// one pass. The softmax is online (Milakov, Gimelshein 2018, arXiv:1805.02867). At the end of an
// item the warps' results are added up. If several CTAs share its keys, the last one to finish adds
// up their partial results (as in Flash-Decoding, Dao et al. 2023).
#include "kernels/attention/attention_chunks.cuh"
#include "kernels/attention/attention_item.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 750

// A warp's running results of an item: for each of its 8 rows the maximum score, the sum of the
// weights, and the weighted sum of the values. A lane holds rows 2 * (lane % 4) and the next. Its
// part of the sum of weights covers keys lane / 4 and lane / 4 + 8 of each chunk.
template <int kHead>
struct RowSums {
  float greatest[2];
  float sum[2];
  float out[kHead / 16][4];

  __device__ void clear() {
    greatest[0] = greatest[1] = lowest_score();
    sum[0] = sum[1] = 0.0f;
#pragma unroll
    for (auto& tile : out) tile[0] = tile[1] = tile[2] = tile[3] = 0.0f;
  }

  // Converts `scores` to weights, and rescales the running results to the new maximum.
  __device__ void weigh(float (&scores)[4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float now = fmaxf(scores[i], scores[i + 2]);
      for (int distance = 4; distance < 32; distance *= 2) {
        now = fmaxf(now, __shfl_xor_sync(kFullWarp, now, distance));
      }
      now = fmaxf(now, greatest[i]);
      // Avoids -infinity - -infinity if the row has seen no key yet.
      const float base = now == lowest_score() ? 0.0f : now;
      const float before = exp2_fast(greatest[i] - base);
      greatest[i] = now;
      scores[i] = exp2_fast(scores[i] - base);
      scores[i + 2] = exp2_fast(scores[i + 2] - base);
      sum[i] = sum[i] * before + scores[i] + scores[i + 2];
#pragma unroll
      for (auto& tile : out) {
        tile[i] *= before;
        tile[i + 2] *= before;
      }
    }
  }
};

template <typename T, int kHead>
__device__ void load_query(const AttentionLaunchParams& p, const AttentionItem& item, int lane,
                           unsigned (&query)[kHead / 16][2]) {
  const int row = lane / 4;
  const RowPlace place = place_row(p.attention, item, item.kv_head, item.row + row);
  const T* from = static_cast<const T*>(p.attention.query) +
                  place.token * p.attention.query_token_stride +
                  place.head * p.attention.query_head_stride + 2 * (lane % 4);
#pragma unroll
  for (int k = 0; k < kHead / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      query[k][i] =
          row < item.rows ? *reinterpret_cast<const unsigned*>(from + 16 * k + 8 * i) : 0u;
    }
  }
}

// Adds up the results of the CTA's warps, and writes them. `results` [warps, 8, pitch] and
// `weights` [warps, 8, 2] are in shared memory; `weights` is double-buffered across items.
template <typename T, int kHead>
__device__ void finish_item(const AttentionLaunchParams& p, const AttentionItem& item,
                            RowSums<kHead>& mine, float* results, float2* weights) {
  constexpr int kPitch = decode_result_pitch(kHead);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    for (int distance = 4; distance < 32; distance *= 2) {
      mine.sum[i] += __shfl_xor_sync(kFullWarp, mine.sum[i], distance);
    }
    if (lane < 4) {
      weights[warp * kDecodeRows + 2 * lane + i] = make_float2(mine.greatest[i], mine.sum[i]);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = 2 * (lane % 4) + i;
    float greatest = lowest_score();
    for (int w = 0; w < kAttentionWarps; ++w) {
      greatest = fmaxf(greatest, weights[w * kDecodeRows + row].x);
    }
    const float factor =
        mine.greatest[i] == lowest_score() ? 0.0f : exp2_fast(mine.greatest[i] - greatest);
    float* to = results + (warp * kDecodeRows + row) * kPitch + lane / 4;
#pragma unroll
    for (int tile = 0; tile < kHead / 16; ++tile) {
      to[16 * tile] = mine.out[tile][i] * factor;
      to[16 * tile + 8] = mine.out[tile][i + 2] * factor;
    }
  }
  __syncthreads();
  constexpr int kQuads = kHead / 4;
  for (int index = threadIdx.x; index < item.rows * kQuads; index += kAttentionThreads) {
    const int row = index / kQuads, quad = index % kQuads;
    float greatest = lowest_score(), sum = 0.0f;
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int w = 0; w < kAttentionWarps; ++w) {
      greatest = fmaxf(greatest, weights[w * kDecodeRows + row].x);
    }
    for (int w = 0; w < kAttentionWarps; ++w) {
      const float2 weight = weights[w * kDecodeRows + row];
      if (weight.x != lowest_score()) sum += weight.y * exp2_fast(weight.x - greatest);
      const float4 part =
          *reinterpret_cast<float4*>(results + (w * kDecodeRows + row) * kPitch + 4 * quad);
      total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
    }
    write_quad<T>(p, item, slot_of(item), row, quad, kHead, total, greatest, sum);
  }
  if (item.splits > 1) merge_splits<T>(p, item, kHead);
}

template <typename T, int kHead>
__device__ void paged_decode(const AttentionLaunchParams& p) {
  using Reader = ChunkReader<T, kHead>;
  using Rows = typename Reader::Rows;
  extern __shared__ __align__(128) unsigned char shared[];
  constexpr int kChunksBytes = kAttentionWarps * 2 * Reader::kStages * Reader::kChunkBytes;
  float* results = reinterpret_cast<float*>(shared + kChunksBytes);
  float2* weights = reinterpret_cast<float2*>(results + kAttentionWarps * kDecodeRows *
                                                            decode_result_pitch(kHead));

  allow_kernels_after();  // at once: the next kernel (few_rows) prefetches its weights meanwhile
  Reader reader(p, shared_address(shared));
  const int warp = reader.warp, lane = reader.lane;
  ItemList items(p.items);
  const auto start = [&] {
    items.start();
    reader.start(items);
  };
  if (p.metadata_ready != 0) {
    start();
    // A CTA without work exits at once. CTA 0 never does: one CTA must wait for earlier kernels, so
    // that the end of this kernel implies the end of those.
    if (items.ahead().rows == 0 && blockIdx.x > 0) return;
    reader.look_ahead();
  }
  wait_for_kernels_before();
  if (p.metadata_ready == 0) start();
  for (int i = 0; i < Reader::kStages; ++i) reader.read_next();
  // Which row and segment this lane addresses for ldmatrix: of keys, and of values (transposed).
  const int key_row = lane % 16, key_segment = lane / 16;
  const int value_row = lane % 8 + lane / 16 * 8, value_segment = lane / 8 % 2;
  const Scoring scoring(p.attention);
  unsigned stage = 0;
  unsigned query[kHead / 16][2];
  load_query<T, kHead>(p, items.ahead(), lane, query);

  for (int parity = 0; items.more(); parity ^= 1) {
    const AttentionItem item = items.take();
    int first[2], last[2];  // this lane's two rows attend to keys [first, last)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const RowPlace place =
          place_row(p.attention, item, item.kv_head, item.row + 2 * (lane % 4) + i);
      first[i] = max(place.first, item.begin);
      last[i] = min(place.last, item.end);
    }
    RowSums<kHead> sums;
    sums.clear();

    const int chunks_end = (item.end + kChunk - 1) / kChunk;
    for (int chunk = item.begin / kChunk + warp; chunk < chunks_end; chunk += kAttentionWarps) {
      copies_wait<Reader::kStages - 1>();
      __syncwarp();
      const unsigned keys = reader.stages + 2 * stage * Reader::kChunkBytes;
      const unsigned values = keys + Reader::kChunkBytes;

      float scores[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int k = 0; k < kHead / 16; ++k) {
        unsigned matrices[4];
        load_matrices(matrices, keys + Rows::offset(key_row, 2 * k + key_segment));
        multiply_add<T>(scores, matrices, query[k][0], query[k][1]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = chunk * kChunk + lane / 4 + i / 2 * 8;
        const bool seen = key >= first[i % 2] && key < last[i % 2];
        scores[i] = seen ? scoring(scores[i]) : lowest_score();
      }
      sums.weigh(scores);
      const unsigned weights0 = transpose_matrix(from_floats<T>(scores[0], scores[1]));
      const unsigned weights1 = transpose_matrix(from_floats<T>(scores[2], scores[3]));
#pragma unroll
      for (int tile = 0; tile < kHead / 16; ++tile) {
        unsigned matrices[4];
        load_matrices_transposed(matrices,
                                 values + Rows::offset(value_row, 2 * tile + value_segment));
        multiply_add<T>(sums.out[tile], matrices, weights0, weights1);
      }
      __syncwarp();  // all lanes have read the stage, which read_next overwrites
      reader.read_next();
      stage = stage + 1 == Reader::kStages ? 0 : stage + 1;
    }
    if (items.more()) {
      load_query<T, kHead>(p, items.ahead(), lane, query);
    }
    finish_item<T, kHead>(p, item, sums, results, weights + parity * kAttentionWarps * kDecodeRows);
  }
}

#endif  // __CUDA_ARCH__ >= 750

}  // namespace vllm

// Without tensor cores for a type there is no kernel; attention_plain.cu is used instead.
#define VLLM_PAGED_DECODE(name, T, head)                                                    \
  extern "C" __global__ void __launch_bounds__(vllm::kAttentionThreads)                     \
      paged_decode_##name##_##head(__grid_constant__ const vllm::AttentionLaunchParams p) { \
    vllm::paged_decode<T, head>(p);                                                         \
  }
#define VLLM_PAGED_DECODE_HEADS(name, T) \
  VLLM_PAGED_DECODE(name, T, 64)         \
  VLLM_PAGED_DECODE(name, T, 80)         \
  VLLM_PAGED_DECODE(name, T, 96)         \
  VLLM_PAGED_DECODE(name, T, 128)        \
  VLLM_PAGED_DECODE(name, T, 256)

#if __CUDA_ARCH__ >= 750
VLLM_PAGED_DECODE_HEADS(f16, vllm::Half)
#else
// A module must have a kernel: in one without, NVRTC generates names from its process id, and
// builds would not be reproducible.
extern "C" __global__ void no_tensor_cores() {}
#endif
#if __CUDA_ARCH__ >= 800
VLLM_PAGED_DECODE_HEADS(bf16, vllm::BFloat16)
#endif
