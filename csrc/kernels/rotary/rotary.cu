// Rotary position embedding, with 2^head_bits threads for each head of query and key: either in
// place, or fused with writing keys and values to the KV cache and optionally with a norm of each
// head before the rotation.
//
// A CTA (thread block) processes a token. If its threads cover all heads at once, and only rotated
// elements are accessed, there are kernels without loops.
//
// If a token's position is out of range, its rotated elements become NaN, and nothing is read for
// it; if its slot is out of range, it is not written to the cache.
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "kernels/common/reduce.cuh"
#include "kernels/rotary/rotary_heads.cuh"
#include "params/rotary.h"

namespace vllm {

// N: pairs that a thread rotates at once; it divides rotary_size / 2 and, with kWrites, head_size.
// kWrites: there is a cache, and there may be norms; without, query and key are rotated in place.
template <typename T, int N, bool kNeox, bool kWrites>
__device__ void rotary_embedding(const RotaryEmbeddingParams& p) {
  wait_for_kernels_before();
  using PairsOf = Pairs<T, N, kNeox>;
  const unsigned half = static_cast<unsigned>(p.rotary_size / 2);
  const unsigned rotary_size = static_cast<unsigned>(p.rotary_size);
  const unsigned head_size = static_cast<unsigned>(p.head_size);
  const unsigned heads = static_cast<unsigned>(p.query_heads + (kWrites ? 2 : 1) * p.key_heads);
  const unsigned lanes = 1u << p.head_bits, groups = blockDim.x >> p.head_bits;
  const unsigned begin = (threadIdx.x & (lanes - 1)) * N, step = lanes * N;

  for (i64 t = blockIdx.x; t < p.tokens; t += gridDim.x) {
    unsigned index = threadIdx.x >> p.head_bits;
    if (index >= heads) continue;
    const i64 position = p.positions[t];
    Token<T, kWrites> token(p, t);
    token.find_slot();
    Head<T> head = token.head(index);

    // Starts loading the first head before anything waits for the position.
    PairsOf held;
    Angles<T, N> angles;
    if (begin < half) held.read(head.from, begin, half);
    const T* row = nullptr;
    if (position >= 0 && position < p.max_position) {
      row = static_cast<const T*>(p.cos_sin) + position * p.cos_sin_stride;
    }
    if (begin < half) angles.read(row, begin, half);
    if (t + gridDim.x >= p.tokens) allow_kernels_after();

    while (true) {
      if (head.to != nullptr) {
        float scale = 1.0f;
        if (head.weight != nullptr) {
          float sum = begin < half ? held.sum_of_squares() : 0.0f;
#pragma unroll 1
          for (unsigned pair = begin + step; pair < half; pair += step) {
            PairsOf pairs;
            pairs.read(head.from, pair, half);
            sum += pairs.sum_of_squares();
          }
#pragma unroll 1
          for (unsigned i = rotary_size + begin; i < head_size; i += step) {
            const Pack<T, N> rest = load<T, N>(head.from + i);
#pragma unroll
            for (int k = 0; k < N; ++k) sum += square(rest.get(k));
          }
          sum = group_sum(sum, p.head_bits);
          scale = norm_scale(sum, static_cast<float>(head_size), p.epsilon);
        }
#pragma unroll 1
        for (unsigned pair = begin; pair < half; pair += step) {
          if (pair != begin) {
            held.read(head.from, pair, half);
            angles.read(row, pair, half);
          }
          if (head.is_rotated) {
            if (head.weight != nullptr) {
              PairsOf weight;
              weight.read(head.weight, pair, half);
              held.rotate(
                  angles, [&](int i) { return scale * weight.first(i); },
                  [&](int i) { return scale * weight.second(i); });
            } else {
              held.rotate(angles, [](int) { return 1.0f; }, [](int) { return 1.0f; });
            }
          }
          held.write(head.to, pair, half);
        }
        if (half > step) angles.read(row, begin, half);  // the first ones again, for the next head
        if (kWrites && (head.to != head.from || head.weight != nullptr)) {
#pragma unroll 1
          for (unsigned i = rotary_size + begin; i < head_size; i += step) {
            Pack<T, N> rest = load<T, N>(head.from + i);
            if (head.weight != nullptr) {
              const Pack<T, N> weight = load<T, N>(head.weight + i);
              float values[N];
#pragma unroll
              for (int k = 0; k < N; ++k) values[k] = rest.get(k) * scale * weight.get(k);
              rest.set(values);
            }
            store(head.to + i, rest);
          }
        }
      }
      index += groups;
      if (index >= heads) break;
      head = token.head(index);
      if (begin < half) held.read(head.from, begin, half);
    }
  }
}

// Heads of N << head_bits pairs, all of which are rotated.
template <typename T, int N, bool kWrites>
__device__ void rotate_whole_heads(const RotaryEmbeddingParams& p) {
  const unsigned half = static_cast<unsigned>(p.rotary_size / 2);
  const unsigned heads = static_cast<unsigned>(p.query_heads + (kWrites ? 2 : 1) * p.key_heads);
  const unsigned index = threadIdx.x >> p.head_bits;
  const unsigned pair = (threadIdx.x & ((1u << p.head_bits) - 1)) * N;
  if (index >= heads) return;
  const i64 t = blockIdx.x;

  Token<T, kWrites> token(p, t);
  Head<T> head = token.head(index);
  Pairs<T, N, true> held, weight;
  Angles<T, N> angles;
  const auto read_metadata = [&] {
    const i64 position = p.positions[t];
    token.find_slot();
    if (head.weight != nullptr) weight.read(head.weight, pair, half);
    if (!head.is_rotated) return;
    const bool is_in_range = position >= 0 && position < p.max_position;
    const T* row = static_cast<const T*>(p.cos_sin) + position * p.cos_sin_stride;
    angles.read(is_in_range ? row : nullptr, pair, half);
  };

  allow_kernels_after();  // at once: this kernel has few CTAs, so that no slots are missing
  if (p.metadata_ready) read_metadata();
  wait_for_kernels_before();
  held.read(head.from, pair, half);
  if (!p.metadata_ready) read_metadata();
  head = token.head(index);
  if (head.to == nullptr) return;
  if (head.weight != nullptr) {
    const float sum = group_sum(held.sum_of_squares(), p.head_bits);
    const float scale = norm_scale(sum, static_cast<float>(2 * half), p.epsilon);
    held.rotate(
        angles, [&](int i) { return scale * weight.first(i); },
        [&](int i) { return scale * weight.second(i); });
  } else if (head.is_rotated) {
    held.rotate(angles, [](int) { return 1.0f; }, [](int) { return 1.0f; });
  }
  held.write(head.to, pair, half);
}

}  // namespace vllm

#define VLLM_ROTATE_WHOLE_HEADS(name, T, kWrites)                                         \
  extern "C" __global__ void __launch_bounds__(512) name(vllm::RotaryEmbeddingParams p) { \
    vllm::rotate_whole_heads<T, vllm::kVector<T>, kWrites>(p);                            \
  }

#define VLLM_ROTARY_EMBEDDING(name, T, N, kNeox)               \
  extern "C" __global__ void __launch_bounds__(512)            \
      rotary_embedding_##name(vllm::RotaryEmbeddingParams p) { \
    vllm::rotary_embedding<T, N, kNeox, false>(p);             \
  }

#define VLLM_ROTARY_AND_CACHE(name, T, N)                      \
  extern "C" __global__ void __launch_bounds__(512)            \
      rotary_and_cache_##name(vllm::RotaryEmbeddingParams p) { \
    vllm::rotary_embedding<T, N, true, true>(p);               \
  }

#define VLLM_ROTARY(name, T)                                               \
  VLLM_ROTARY_EMBEDDING(neox_##name, T, 1, true)                           \
  VLLM_ROTARY_EMBEDDING(neox_##name##_vec, T, vllm::kVector<T>, true)      \
  VLLM_ROTARY_EMBEDDING(gptj_##name, T, 1, false)                          \
  VLLM_ROTARY_EMBEDDING(gptj_##name##_vec, T, vllm::kVector<T> / 2, false) \
  VLLM_ROTARY_AND_CACHE(name, T, 1)                                        \
  VLLM_ROTARY_AND_CACHE(name##_vec, T, vllm::kVector<T>)                   \
  VLLM_ROTATE_WHOLE_HEADS(rotary_embedding_neox_##name##_whole, T, false)  \
  VLLM_ROTATE_WHOLE_HEADS(rotary_and_cache_##name##_whole, T, true)

VLLM_ROTARY(f32, float)
VLLM_ROTARY(f16, vllm::Half)
VLLM_ROTARY(bf16, vllm::BFloat16)
