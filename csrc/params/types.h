// Arguments of every op, as plain data with shapes beside pointers, a file for each family. One
// definition serves the CPU kernels, the CUDA launchers and the device code, so this folder may
// include nothing else (NVRTC has no standard headers) and every struct must have the same layout
// for every compiler.
//
// Shapes are in elements; strides are in elements between neighbours of that dimension.
// The last dimension of every tensor is contiguous.
#pragma once

namespace vllm {

using i64 = long long;

}  // namespace vllm
