#include "ops/cache.h"

#include "runtime/text.h"

namespace vllm::ops {

Cache require_cache(const char* op, const Tensor& tensor, const Tensor& like) {
  require_same_dtype(op, tensor, like);
  require_same_device(op, tensor, like);
  require_ndim(op, tensor, 4, "(blocks, block_size, kv_heads, head_size)");
  require_contiguous_last(op, tensor);
  if (tensor.shape[1] < 1) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)),
           "blocks of at least one token");
  }
  return {tensor.shape[0],   tensor.shape[1],   tensor.shape[2],  tensor.shape[3],
          tensor.strides[0], tensor.strides[1], tensor.strides[2]};
}

void refuse_cuda(const char* op, const Tensor& tensor) {
  refuse(ErrorKind::runtime, op, tensor,
         concat("is on cuda:", tensor.device_index, ", and this build has no CUDA kernel for ", op),
         "tensors on the CPU");
}

}  // namespace vllm::ops
