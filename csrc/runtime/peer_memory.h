// Peer memory: GPU memory that other processes of this machine can map, by CUDA IPC handles.
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace vllm::cuda {

// A separate allocation on a device, with every byte set to kExchangeEmpty except the first
// `zeros`. Returns its address.
int64_t allocate_peer_memory(int64_t device, int64_t bytes, int64_t zeros);
void free_peer_memory(int64_t device, int64_t address);

// Writes the IPC handle with which another process opens it: int64 [8] on the CPU.
void peer_memory_handle(int64_t device, int64_t address, const Tensor& handle);

// The address of another process's memory in this one, for kernels of `device`. Not for a handle of
// this process. Throws Error if the two GPUs have no peer access.
int64_t open_peer_memory(int64_t device, const Tensor& handle);
void close_peer_memory(int64_t device, int64_t address);

}  // namespace vllm::cuda
