// Rotary position embedding, in place: a block per token, its threads over the pairs of all query
// and key heads. A token whose position is out of range gets NaN where it would be rotated, and
// nothing is read for it.
#include "float_types.cuh"
#include "params.h"

namespace vllm {

// Turns one pair by an angle.
template <typename T>
__device__ void turn(T& first, T& second, float cosine, float sine) {
  const float a = to_float(first), b = to_float(second);
  first = from_float<T>(a * cosine - b * sine);
  second = from_float<T>(b * cosine + a * sine);
}

// Rotates N pairs of one head. NeoX pairs element i with i + half, GPT-J 2i with 2i + 1.
template <typename T, int N, bool kNeox>
__device__ void rotate(T* head, unsigned pair, unsigned half, const float (&cosine)[N],
                       const float (&sine)[N]) {
  if constexpr (kNeox) {
    Pack<T, N> x = load<T, N>(head + pair);
    Pack<T, N> y = load<T, N>(head + half + pair);
    for (int i = 0; i < N; ++i) turn(x.values[i], y.values[i], cosine[i], sine[i]);
    store(head + pair, x);
    store(head + half + pair, y);
  } else if constexpr (N == 1) {
    // No pack of two: a pair need not lie on a multiple of its size.
    turn(head[2 * pair], head[2 * pair + 1], cosine[0], sine[0]);
  } else {
    Pack<T, 2 * N> pairs = load<T, 2 * N>(head + 2 * pair);
    for (int i = 0; i < N; ++i) {
      turn(pairs.values[2 * i], pairs.values[2 * i + 1], cosine[i], sine[i]);
    }
    store(head + 2 * pair, pairs);
  }
}

// N: pairs that a thread rotates at once; it divides rotary_size / 2.
template <typename T, int N, bool kNeox>
__device__ void rotary_embedding(const RotaryEmbeddingParams& params) {
  const unsigned half = static_cast<unsigned>(params.rotary_size / 2);
  const unsigned packs = half / N;  // of one head
  const unsigned query_heads = static_cast<unsigned>(params.query_heads);
  const unsigned work = (query_heads + static_cast<unsigned>(params.key_heads)) * packs;

  for (i64 token = blockIdx.x; token < params.tokens; token += gridDim.x) {
    const i64 position = params.positions[token];
    const bool in_range = position >= 0 && position < params.max_position;
    const T* angles = static_cast<const T*>(params.cos_sin);
    if (in_range) angles += position * params.cos_sin_stride;
    T* query = static_cast<T*>(params.query) + token * params.query_token_stride;
    T* key = static_cast<T*>(params.key) + token * params.key_token_stride;

    for (unsigned index = threadIdx.x; index < work; index += blockDim.x) {
      const unsigned head = index / packs, pair = index % packs * N;
      float cosine[N], sine[N];
      if (in_range) {
        const Pack<T, N> cosines = load<T, N>(angles + pair);
        const Pack<T, N> sines = load<T, N>(angles + half + pair);
        for (int i = 0; i < N; ++i) {
          cosine[i] = to_float(cosines.values[i]);
          sine[i] = to_float(sines.values[i]);
        }
      } else {
        for (int i = 0; i < N; ++i) cosine[i] = sine[i] = quiet_nan();
      }
      T* values = head < query_heads ? query + head * params.query_head_stride
                                     : key + (head - query_heads) * params.key_head_stride;
      rotate<T, N, kNeox>(values, pair, half, cosine, sine);
    }
  }
}

}  // namespace vllm

#define VLLM_ROTARY_EMBEDDING(name, T)                                    \
  extern "C" __global__ void __launch_bounds__(512)                       \
      rotary_embedding_neox_##name(vllm::RotaryEmbeddingParams p) {       \
    vllm::rotary_embedding<T, 1, true>(p);                                \
  }                                                                       \
  extern "C" __global__ void __launch_bounds__(512)                       \
      rotary_embedding_neox_##name##_vec(vllm::RotaryEmbeddingParams p) { \
    vllm::rotary_embedding<T, vllm::kVector<T>, true>(p);                 \
  }                                                                       \
  extern "C" __global__ void __launch_bounds__(512)                       \
      rotary_embedding_gptj_##name(vllm::RotaryEmbeddingParams p) {       \
    vllm::rotary_embedding<T, 1, false>(p);                               \
  }                                                                       \
  extern "C" __global__ void __launch_bounds__(512)                       \
      rotary_embedding_gptj_##name##_vec(vllm::RotaryEmbeddingParams p) { \
    vllm::rotary_embedding<T, vllm::kVector<T> / 2, false>(p);            \
  }

VLLM_ROTARY_EMBEDDING(f32, float)
VLLM_ROTARY_EMBEDDING(f16, vllm::Half)
VLLM_ROTARY_EMBEDDING(bf16, vllm::BFloat16)
