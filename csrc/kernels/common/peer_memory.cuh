// Packs of 16 bytes that one GPU writes into another's memory. A place says by itself whether
// something has come: it is empty (all bits set) before, and whoever has read it empties it again.
// So data needs no flag beside it, and takes one way only. (The protocol is known as Lamport's in
// TensorRT-LLM and FlashInfer, which reserve -0.0.)
//
// PTX ISA, "Memory Consistency Model": an access to four words is four relaxed accesses in any
// order, each of them whole. So a pack has come when none of its words is empty.
#pragma once

namespace vllm {

struct alignas(16) Words {
  unsigned words[4];
};

constexpr unsigned kEmptyWord = 0xffffffffu;  // a NaN, or two: see `without_empty`

// Of 2^11 looks at a place that stays empty, one is followed by a look at the host's memory.
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

// What may be sent: a word that would look empty is two NaNs of 16 bits or one of 32, and becomes
// other NaNs.
__device__ inline Words without_empty(Words value) {
#pragma unroll
  for (unsigned& word : value.words) word = word == kEmptyWord ? 0x7fffffffu : word;
  return value;
}

// Waits until a pack has come, and empties its place for the next. Once *stop is set by the host it
// returns whatever is there.
__device__ inline Words receive(void* place, const unsigned* stop) {
  for (unsigned looks = 1;; ++looks) {
    const Words got = load_system(place);
    const bool is_whole = got.words[0] != kEmptyWord && got.words[1] != kEmptyWord &&
                          got.words[2] != kEmptyWord && got.words[3] != kEmptyWord;
    if (is_whole || (looks % kLooksBeforeStop == 0 && load_system_word(stop) != 0)) {
      store_system(place, {{kEmptyWord, kEmptyWord, kEmptyWord, kEmptyWord}});
      return got;
    }
  }
}

}  // namespace vllm
