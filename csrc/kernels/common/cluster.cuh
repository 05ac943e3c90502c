// Clusters of blocks, from compute capability 9.0 on: their blocks run at the same time and reach
// each other's shared memory. PTX ISA, "Cluster of Cooperative Thread Arrays".
#pragma once

namespace vllm {

// The cluster that this block belongs to. Launched without one, or elsewhere, it is alone in it.
struct Cluster {
  unsigned rank = 0;  // of this block
  unsigned size = 1;

  __device__ Cluster() {
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
#endif
  }

  // Waits for all threads of all blocks, and for what they wrote. None may end while another block
  // still reads its shared memory.
  __device__ void sync() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      // Released and acquired, which CUDA 11.8 cannot write out.
      asm volatile("barrier.cluster.arrive;\n\tbarrier.cluster.wait;" ::: "memory");
      return;
    }
#endif
    __syncthreads();
  }

  // Where the block of a rank has what this one has at `shared`.
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
