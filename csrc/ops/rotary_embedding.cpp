#include "ops/launch.h"
#include "ops/ops.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "rotary_embedding";

cuda::Kernel neox_kernels[kFloatTypes][2] = {
    {{"rotary", "rotary_embedding_neox_f32"}, {"rotary", "rotary_embedding_neox_f32_vec"}},
    {{"rotary", "rotary_embedding_neox_f16"}, {"rotary", "rotary_embedding_neox_f16_vec"}},
    {{"rotary", "rotary_embedding_neox_bf16"}, {"rotary", "rotary_embedding_neox_bf16_vec"}},
};
cuda::Kernel gptj_kernels[kFloatTypes][2] = {
    {{"rotary", "rotary_embedding_gptj_f32"}, {"rotary", "rotary_embedding_gptj_f32_vec"}},
    {{"rotary", "rotary_embedding_gptj_f16"}, {"rotary", "rotary_embedding_gptj_f16_vec"}},
    {{"rotary", "rotary_embedding_gptj_bf16"}, {"rotary", "rotary_embedding_gptj_bf16_vec"}},
};

struct Heads {
  i64 heads;
  i64 token_stride;
  i64 head_stride;
};

// (tokens, heads, head_size), or (tokens, heads * head_size).
Heads require_heads(const Tensor& tensor, i64 tokens, i64 head_size) {
  const bool flat = tensor.ndim == 2;
  const bool fits = (flat && tensor.shape[1] % head_size == 0) ||
                    (tensor.ndim == 3 && tensor.shape[2] == head_size);
  if (!fits || tensor.shape[0] != tokens) {
    refuse(ErrorKind::value, kOp, tensor, concat("has shape ", shape_text(tensor)),
           concat("(", tokens, ", heads, ", head_size, ") or (", tokens, ", heads * ", head_size,
                  "), by 'positions' and head_size"));
  }
  require_contiguous_last(kOp, tensor);
  require_writable(kOp, tensor);
  if (flat) return {tensor.shape[1] / head_size, tensor.strides[0], head_size};
  return {tensor.shape[1], tensor.strides[0], tensor.strides[1]};
}

void require_cos_sin(const Tensor& cache, i64 head_size) {
  require_ndim(kOp, cache, 2, "(positions, rotary_size)");
  require_contiguous_last(kOp, cache);
  const i64 rotary_size = cache.shape[1];
  if (rotary_size < 2 || rotary_size % 2 != 0 || rotary_size > head_size) {
    refuse(ErrorKind::value, kOp, cache, concat("has shape ", shape_text(cache)),
           concat("an even second dimension from 2 to head_size, ", head_size));
  }
}

// Before anything is written: on the CPU a wrong position leaves query and key as they were.
void require_positions_in_range(const Tensor& positions, i64 max_position) {
  const auto* values = static_cast<const i64*>(positions.data);
  for (i64 i = 0; i < positions.shape[0]; ++i) {
    if (values[i] < 0 || values[i] >= max_position) {
      refuse(ErrorKind::index, kOp, positions, concat("holds ", values[i], " at index ", i),
             concat("0 to ", max_position - 1, ", the rows of 'cos_sin_cache'"));
    }
  }
}

void run_rotary_on_cuda(const RotaryEmbeddingParams& params, const Tensor& query) {
  const i64 size = element_size(query.dtype);
  // A pack of NeoX lies in one half of a head; a pack of GPT-J holds its pairs side by side.
  const i64 part = params.is_neox != 0 ? params.rotary_size / 2 : params.rotary_size;
  const auto packs = [&](const void* data, i64 rows, i64 stride) {
    return packs_16_bytes(data, rows, stride, part, size);
  };
  const bool vectors = packs(params.query, params.tokens, params.query_token_stride) &&
                       packs(params.query, params.query_heads, params.query_head_stride) &&
                       packs(params.key, params.tokens, params.key_token_stride) &&
                       packs(params.key, params.key_heads, params.key_head_stride) &&
                       packs(params.cos_sin, params.max_position, params.cos_sin_stride);
  const i64 loads = (params.query_heads + params.key_heads) *
                    (vectors ? part * size / 16 : params.rotary_size / 2);
  auto& kernels = params.is_neox != 0 ? neox_kernels : gptj_kernels;
  run_on_cuda(kernels[float_index(query.dtype)][vectors ? 1 : 0],
              {grid_x(params.tokens), 1, block_threads(loads, 512)}, params, query);
}

}  // namespace

void rotary_embedding(const Tensor& positions, const Tensor& query, const Tensor* key,
                      int64_t head_size, const Tensor& cos_sin_cache, bool is_neox) {
  require_float(kOp, query);
  require_dtype(kOp, positions, DType::int64, "");
  require_same_device(kOp, positions, query);
  require_same_dtype(kOp, cos_sin_cache, query);
  require_same_device(kOp, cos_sin_cache, query);
  require_ndim(kOp, positions, 1, "(tokens,)");
  require_contiguous_last(kOp, positions);
  if (head_size < 1 || head_size > kMaxWidth) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'head_size' is ", head_size,
                                         "; it takes the elements of a head, 1 to ", kMaxWidth));
  }
  require_cos_sin(cos_sin_cache, head_size);
  const i64 tokens = positions.shape[0];
  const Heads query_heads = require_heads(query, tokens, head_size);
  require_disjoint(kOp, query, cos_sin_cache, Sharing::none);
  require_disjoint(kOp, query, positions, Sharing::none);
  Heads key_heads{0, 0, 0};
  if (key != nullptr) {
    require_same_dtype(kOp, *key, query);
    require_same_device(kOp, *key, query);
    key_heads = require_heads(*key, tokens, head_size);
    require_disjoint(kOp, *key, query, Sharing::none);
    require_disjoint(kOp, *key, cos_sin_cache, Sharing::none);
    require_disjoint(kOp, *key, positions, Sharing::none);
  }

  RotaryEmbeddingParams params{};
  params.positions = static_cast<const i64*>(positions.data);
  params.query = query.data;
  params.key = key != nullptr ? key->data : nullptr;
  params.cos_sin = cos_sin_cache.data;
  params.tokens = tokens;
  params.query_heads = query_heads.heads;
  params.key_heads = key_heads.heads;
  params.head_size = head_size;
  params.rotary_size = cos_sin_cache.shape[1];
  params.max_position = cos_sin_cache.shape[0];
  params.query_token_stride = query_heads.token_stride;
  params.query_head_stride = query_heads.head_stride;
  params.key_token_stride = key_heads.token_stride;
  params.key_head_stride = key_heads.head_stride;
  params.cos_sin_stride = cos_sin_cache.strides[0];
  params.is_neox = is_neox ? 1 : 0;
  const i64 heads = params.query_heads + params.key_heads;
  if (tokens == 0 || heads == 0) return;

  if (query.device_type == DeviceType::cuda) {
    if (heads > kMaxWidth / params.rotary_size) {
      refuse(ErrorKind::value, kOp, query, concat("has, with 'key', ", heads, " heads"),
             concat("at most ", kMaxWidth / params.rotary_size, " of this rotary size"));
    }
    run_rotary_on_cuda(params, query);
  } else {
    require_positions_in_range(positions, params.max_position);
    run_on_cpu(cpu::kernels().rotary_embedding[float_index(query.dtype)], params, tokens,
               2 * tokens * heads * params.rotary_size * element_size(query.dtype));
  }
}

}  // namespace vllm::ops
