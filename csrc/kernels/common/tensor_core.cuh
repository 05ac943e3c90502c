// Warp-wide matrix instructions and copies into shared memory, by PTX. Fragment layouts: PTX ISA,
// "Matrix Fragments for mma.m16n8k16". float16 from compute capability 7.5, bfloat16 from 8.0.
#pragma once

#include "kernels/common/float_types.cuh"
#include "kernels/common/reduce.cuh"

namespace vllm {

// Whether this architecture multiplies matrices of T with the instructions below.
template <typename T>
constexpr bool kTensorCores = false;
#if __CUDA_ARCH__ >= 750
template <>
constexpr bool kTensorCores<Half> = true;
#endif
#if __CUDA_ARCH__ >= 800
template <>
constexpr bool kTensorCores<BFloat16> = true;
#endif

__device__ inline unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

__device__ inline float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

#if __CUDA_ARCH__ >= 750

// Four 8 x 8 matrices of 16-bit elements: lane l passes the address of row l % 8 of matrix l / 8.
__device__ inline void load_matrices(unsigned (&matrices)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row));
}
__device__ inline void load_matrices_transposed(unsigned (&matrices)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row));
}

// An 8 x 8 matrix that lies across the warp's registers.
__device__ inline unsigned transpose_matrix(unsigned matrix) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
  return result;
}

// sum[16 x 8] += a[16 x 16] * b[16 x 8], in float32.
template <typename T>
__device__ void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);

template <>
__device__ inline void multiply_add<Half>(float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                          unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

#if __CUDA_ARCH__ >= 800
template <>
__device__ inline void multiply_add<BFloat16>(float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                              unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// Copies 16 bytes from global to shared memory, or zeros if not `valid` (then nothing is read).
// From compute capability 8.0 on the copy is asynchronous (cp.async), until copies_wait.
__device__ inline void copy_16_bytes(unsigned to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
#else
  uint4 bytes = make_uint4(0, 0, 0, 0);
  if (valid) bytes = *static_cast<const uint4*>(from);
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(bytes.x), "r"(bytes.y),
               "r"(bytes.z), "r"(bytes.w)
               : "memory");
#endif
}

// Ends a group of copies, which may be empty.
__device__ inline void copies_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all groups of this thread but the last kLeft.
template <int kLeft>
__device__ void copies_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

#endif  // __CUDA_ARCH__ >= 750

// Rows of kSize 16-bit elements in shared memory, laid out so that load_matrices, which reads 16
// bytes of eight rows at once, has no bank conflicts: by an XOR swizzle with the row if a row's
// size is a power of two, else by 16 bytes of padding if necessary.
template <int kSize>
struct SharedRows {
  static constexpr int kSegments = kSize / 8;  // of 16 bytes
  static constexpr bool kSwizzled = kSegments >= 8 && (kSegments & (kSegments - 1)) == 0;
  static constexpr int kPitch = (kSwizzled ? kSegments : kSegments | 1) * 16;  // bytes

  __device__ static unsigned offset(unsigned row, unsigned segment) {
    return row * kPitch + (kSwizzled ? segment ^ (row & 7) : segment) * 16;
  }
  // The address of segment s + 2 k of a row, given that of segment s, which must be 0 or 1: then
  // adding 2 k to the segment's index is the same as XOR, which commutes with the swizzle. Swizzled
  // rows must be aligned to their pitch.
  __device__ static unsigned further(unsigned address, int k) {
    return kSwizzled ? address ^ 32 * k : address + 32 * k;
  }
};

}  // namespace vllm
