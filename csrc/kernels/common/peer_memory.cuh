// Packs of 16 bytes that one GPU writes to another's memory. The data is its own flag: a place with
// all bits set is empty, and the reader empties it again after reading. So there is no separate
// flag and only one transfer. (TensorRT-LLM and FlashInfer call this the Lamport protocol, and
// reserve -0.0.)
//
// PTX ISA, "Memory Consistency Model": an access to four words is four relaxed accesses in any
// order, each of them whole. So a pack has arrived when none of its words is empty.
#pragma once

namespace vllm {

struct alignas(16) Words {
  unsigned words[4];
};

constexpr unsigned kEmptyWord = 0xffffffffu;  // a NaN, or two: see `without_empty`

// While a place stays empty, *stop in host memory is polled once in 2^11 polls of the place.
constexpr unsigned kLooksBeforeStop = 2048;

__device__ inline Words load_system(const void* from) {
  Words got;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(got.words[0]), "=r"(got.words[1]), "=r"(got.words[2]), "=r"(got.words[3])
               : "l"(from)
               : "memory");
  return got;
}

__device__ inline void store_system(void* to, const Words& value) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to),
               "r"(value.words[0]), "r"(value.words[1]), "r"(value.words[2]), "r"(value.words[3])
               : "memory");
}

__device__ inline unsigned load_system_word(const unsigned* from) {
  unsigned got;
  asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(got) : "l"(from) : "memory");
  return got;
}

// Replaces words that look empty before sending: such a word is one 32-bit NaN or two 16-bit NaNs,
// and becomes a NaN with other bits.
__device__ inline Words without_empty(Words value) {
#pragma unroll
  for (unsigned& word : value.words) word = word == kEmptyWord ? 0x7fffffffu : word;
  return value;
}

__device__ inline bool is_whole(const Words& got) {
  return got.words[0] != kEmptyWord && got.words[1] != kEmptyWord && got.words[2] != kEmptyWord &&
         got.words[3] != kEmptyWord;
}

__device__ inline void empty(void* place) {
  store_system(place, {{kEmptyWord, kEmptyWord, kEmptyWord, kEmptyWord}});
}

// Whether to stop polling and take what has arrived, whole or not, because the host has set *stop.
__device__ inline bool must_stop(unsigned polls, const unsigned* stop) {
  return polls % kLooksBeforeStop == 0 && load_system_word(stop) != 0;
}

}  // namespace vllm
