// Clusters of CTAs (thread blocks), from compute capability 9.0 on: the CTAs of a cluster run at
// the same time and can access each other's shared memory. PTX ISA, "Cluster of Cooperative Thread
// Arrays".
#pragma once

namespace vllm {

// The cluster that this CTA belongs to. Without cluster support, or if the kernel was launched
// without clusters, it consists of this CTA only.
struct Cluster {
  unsigned rank = 0;  // of this CTA
  unsigned size = 1;

  __device__ Cluster() {
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
#endif
  }

  // Synchronises all threads of all CTAs, and makes their writes visible. A CTA must not end while
  // another one still reads its shared memory.
  __device__ void sync() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      // Release and acquire by default; CUDA 11.8 does not accept the explicit qualifiers.
      asm volatile("barrier.cluster.arrive;\n\tbarrier.cluster.wait;" ::: "memory");
      return;
    }
#endif
    __syncthreads();
  }

  // The two halves of sync(), for a split arrive and wait; no-ops without a cluster. announce()
  // arrives without release semantics, which saves a fence: after their wait, the other CTAs need
  // not see this CTA's earlier writes.
  __device__ void arrive() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) asm volatile("barrier.cluster.arrive;" ::: "memory");
#endif
  }
  __device__ void announce() const {
#if __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ >= 12
    if (size > 1) asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#else
    arrive();
#endif
  }
  __device__ void wait() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) asm volatile("barrier.cluster.wait;" ::: "memory");
#endif
  }

  // Distributed shared memory: the address in the CTA with this rank that corresponds to `shared`
  // in this CTA.
  template <typename T>
  __device__ T* of(T* shared, unsigned of_rank) const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      T* there;
      asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(of_rank));
      return there;
    }
#endif
    return shared;
  }
};

}  // namespace vllm
