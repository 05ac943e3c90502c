// Peer memory: GPU memory that other processes of this machine can map, by CUDA IPC handles.
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace vllm::cuda {

// Memory of its own on a device, with every byte set to kExchangeEmpty but for the first `zeros`.
// Returns its address.
int64_t allocate_peer_memory(int64_t device, int64_t bytes, int64_t zeros);
void free_peer_memory(int64_t device, int64_t address);

// Writes what another process needs to open it: int64 [8] on the CPU.
void peer_memory_handle(int64_t device, int64_t address, const Tensor& handle);

// The address of another process's memory in this one, for kernels of `device`. Not for a handle of
// this process. Throws Error where the two GPUs do not reach each other.
int64_t open_peer_memory(int64_t device, const Tensor& handle);
void close_peer_memory(int64_t device, int64_t address);

}  // namespace vllm::cuda
