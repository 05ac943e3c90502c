// Matrix products of a warpgroup (four warps), by PTX (ISA, "wgmma.mma_async"); compute capability
// 9.0a only. They are asynchronous: between wgmma_begin and the wgmma_wait for their group, no code
// may access the registers that they read or write.
#pragma once

#include "kernels/common/float_types.cuh"
#include "kernels/common/wgmma_registers.h"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

// Orders earlier register accesses before the products that follow (wgmma.fence).
__device__ inline void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products.
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits for all groups but the last kLeft.
template <int kLeft>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

// A compiler barrier for these registers: no access to them moves across it.
template <int kSize>
__device__ __forceinline__ void hold(float (&registers)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int kSize>
__device__ __forceinline__ void hold(unsigned (&registers)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

// A matrix of 16-bit elements in shared memory: atoms of 8 rows of kRowBytes, swizzled as the
// bulk copy of that many bytes does: 128, 64 or 32. Strides in bytes.
//   K-major: `stride` from 8 rows to the next 8; advance the address to advance along k.
//   MN-major: `stride` from 8 of k to the next 8, `leading` from one atom's columns to the next's.
template <int kRowBytes>
__device__ unsigned long long matrix_descriptor(unsigned address, unsigned leading,
                                                unsigned stride) {
  constexpr unsigned long long kSwizzle = kRowBytes == 128 ? 1 : kRowBytes == 64 ? 2 : 3;
  return (address & 0x3ffff) >> 4 | static_cast<unsigned long long>(leading >> 4) << 16 |
         static_cast<unsigned long long>(stride >> 4) << 32 | kSwizzle << 62;
}

// The descriptor of the matrix that begins `bytes` later.
__device__ inline unsigned long long descriptor_at(unsigned long long descriptor, unsigned bytes) {
  return descriptor + (bytes >> 4);
}

// sum[64 x kColumns] (+)= a[64 x 16] * b[16 x kColumns], float32. add: 0 overwrites `sum` instead
// of adding to it.
//   products: a and b are K-major in shared memory.
//   weigh: a is in registers, b is MN-major in shared memory.
// `sum` has the layout of mma.m16n8k16: a lane holds rows lane / 4 and lane / 4 + 8 of its warp's
// 16 rows, and of each of them columns 8 i + 2 (lane % 4) and the next one.
template <typename T, int kColumns>
struct Wgmma;

#define VLLM_WGMMA(T, type, columns, REGISTERS, OPERANDS, o0, o1, o2, o3, o4, o5)                 \
  template <>                                                                                     \
  struct Wgmma<T, columns> {                                                                      \
    __device__ __forceinline__ static void products(float (&sum)[columns / 2],                    \
                                                    unsigned long long a, unsigned long long b,   \
                                                    int add) {                                    \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " o2                                         \
                   ", 0;\n"                                                                       \
                   "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type          \
                   " {" REGISTERS "}, " o0 ", " o1 ", p, 1, 1, 0, 0;\n}\n"                        \
                   : OPERANDS(sum)                                                                \
                   : "l"(a), "l"(b), "r"(add));                                                   \
    }                                                                                             \
    __device__ __forceinline__ static void weigh(float (&sum)[columns / 2], const unsigned* a,    \
                                                 unsigned long long b, int add) {                 \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " o5                                         \
                   ", 0;\n"                                                                       \
                   "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type          \
                   " {" REGISTERS "}, {" o0 ", " o1 ", " o2 ", " o3 "}, " o4 ", p, 1, 1, 1;\n}\n" \
                   : OPERANDS(sum)                                                                \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));               \
    }                                                                                             \
  };
#define VLLM_WGMMA_TYPES(...)          \
  VLLM_WGMMA(Half, "f16", __VA_ARGS__) \
  VLLM_WGMMA(BFloat16, "bf16", __VA_ARGS__)

VLLM_WGMMA_TYPES(64, VLLM_REGISTERS_32, VLLM_OPERANDS_32, "%32", "%33", "%34", "%35", "%36", "%37")
VLLM_WGMMA_TYPES(80, VLLM_REGISTERS_40, VLLM_OPERANDS_40, "%40", "%41", "%42", "%43", "%44", "%45")
VLLM_WGMMA_TYPES(96, VLLM_REGISTERS_48, VLLM_OPERANDS_48, "%48", "%49", "%50", "%51", "%52", "%53")
VLLM_WGMMA_TYPES(128, VLLM_REGISTERS_64, VLLM_OPERANDS_64, "%64", "%65", "%66", "%67", "%68", "%69")
VLLM_WGMMA_TYPES(192, VLLM_REGISTERS_96, VLLM_OPERANDS_96, "%96", "%97", "%98", "%99", "%100",
                 "%101")
VLLM_WGMMA_TYPES(256, VLLM_REGISTERS_128, VLLM_OPERANDS_128, "%128", "%129", "%130", "%131", "%132",
                 "%133")

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
