// Loads with an L2 eviction hint.
#pragma once

#include "kernels/common/float_types.cuh"

namespace vllm {

// For data that is soon overwritten or read again: L2 evicts it last. Before compute capability 8.0
// this is a plain load.
template <typename T, int N>
__device__ Pack<T, N> load_to_keep(const T* from) {
#if __CUDA_ARCH__ >= 800
  static_assert(sizeof(Pack<T, N>) == 16, "four words");
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  unsigned words[4];
  asm volatile("ld.global.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "l"(from), "l"(policy)
               : "memory");
  Pack<T, N> pack;
  memcpy(&pack, words, sizeof pack);
  return pack;
#else
  return load<T, N>(from);
#endif
}

}  // namespace vllm
