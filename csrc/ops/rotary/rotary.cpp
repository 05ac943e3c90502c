#include "ops/rotary/rotary.h"

#include "ops/cache/cache.h"
#include "ops/common/launch.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr i64 kThreads = 512;  // of a CTA, at most
constexpr i64 kWarp = 32;

// The kernels for a dtype.
struct Kernels {
  cuda::Kernel elements;                 // for any heads
  cuda::Kernel packs;                    // for heads in packs of 16 bytes
  cuda::Kernel whole{nullptr, nullptr};  // for such heads, wholly rotated, few tokens; NeoX
};

Kernels neox_kernels[kFloatTypes] = {
    {{"rotary", "rotary_embedding_neox_f32"},
     {"rotary", "rotary_embedding_neox_f32_vec"},
     {"rotary", "rotary_embedding_neox_f32_whole"}},
    {{"rotary", "rotary_embedding_neox_f16"},
     {"rotary", "rotary_embedding_neox_f16_vec"},
     {"rotary", "rotary_embedding_neox_f16_whole"}},
    {{"rotary", "rotary_embedding_neox_bf16"},
     {"rotary", "rotary_embedding_neox_bf16_vec"},
     {"rotary", "rotary_embedding_neox_bf16_whole"}},
};
Kernels gptj_kernels[kFloatTypes] = {
    {{"rotary", "rotary_embedding_gptj_f32"}, {"rotary", "rotary_embedding_gptj_f32_vec"}},
    {{"rotary", "rotary_embedding_gptj_f16"}, {"rotary", "rotary_embedding_gptj_f16_vec"}},
    {{"rotary", "rotary_embedding_gptj_bf16"}, {"rotary", "rotary_embedding_gptj_bf16_vec"}},
};
Kernels and_cache_kernels[kFloatTypes] = {
    {{"rotary", "rotary_and_cache_f32"},
     {"rotary", "rotary_and_cache_f32_vec"},
     {"rotary", "rotary_and_cache_f32_whole"}},
    {{"rotary", "rotary_and_cache_f16"},
     {"rotary", "rotary_and_cache_f16_vec"},
     {"rotary", "rotary_and_cache_f16_whole"}},
    {{"rotary", "rotary_and_cache_bf16"},
     {"rotary", "rotary_and_cache_bf16_vec"},
     {"rotary", "rotary_and_cache_bf16_whole"}},
};

struct Heads {
  i64 heads;
  i64 token_stride;
  i64 head_stride;
};

// (tokens, heads, head_size), or (tokens, heads * head_size).
Heads require_heads(const char* op, const Tensor& tensor, i64 tokens, i64 head_size) {
  const bool flat = tensor.ndim == 2;
  const bool fits = (flat && tensor.shape[1] % head_size == 0) ||
                    (tensor.ndim == 3 && tensor.shape[2] == head_size);
  if (!fits || tensor.shape[0] != tokens) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)),
           concat("(", tokens, ", heads, ", head_size, ") or (", tokens, ", heads * ", head_size,
                  "), by 'positions' and head_size"));
  }
  require_contiguous_last(op, tensor);
  require_writable(op, tensor);
  if (flat) return {tensor.shape[1] / head_size, tensor.strides[0], head_size};
  return {tensor.shape[1], tensor.strides[0], tensor.strides[1]};
}

void require_cos_sin(const char* op, const Tensor& cache, i64 head_size) {
  require_ndim(op, cache, 2, "(positions, rotary_size)");
  require_contiguous_last(op, cache);
  const i64 rotary_size = cache.shape[1];
  if (rotary_size < 2 || rotary_size % 2 != 0 || rotary_size > head_size) {
    refuse(ErrorKind::value, op, cache, concat("has shape ", shape_text(cache)),
           concat("an even second dimension from 2 to head_size, ", head_size));
  }
}

// Whether pairs, and everything else of a head that is accessed, can be read in 16-byte packs.
bool packs_pairs(const RotaryEmbeddingParams& p, i64 size) {
  // A pack of NeoX lies in one half of a head; a pack of GPT-J holds its pairs side by side.
  const i64 part = p.is_neox != 0 ? p.rotary_size / 2 : p.rotary_size;
  const auto packs = [&](const void* data, i64 rows, i64 stride) {
    return packs_16_bytes(data, rows, stride, part, size);
  };
  return packs(p.query, p.tokens, p.query_token_stride) &&
         packs(p.query, p.query_heads, p.query_head_stride) &&
         packs(p.key, p.tokens, p.key_token_stride) &&
         packs(p.key, p.key_heads, p.key_head_stride) &&
         packs(p.cos_sin, p.max_position, p.cos_sin_stride) &&
         packs_16_bytes(p.query_weight, 1, 0, p.head_size, size) &&
         packs_16_bytes(p.key_weight, 1, 0, p.head_size, size) &&
         (p.write.slots == nullptr || packs_cache_write(p.write, p.head_size, size));
}

// With few tokens each head has its own threads. With many tokens CTAs are smaller: registers, not
// threads, limit how many a multiprocessor runs.
bool are_few(i64 tokens, bool writes_cache) { return tokens < (writes_cache ? 512 : 2048); }

// The most threads of a CTA, which processes a token.
i64 most_threads(i64 tokens, bool writes_cache) {
  if (are_few(tokens, writes_cache)) return kThreads;
  return writes_cache && tokens >= 4096 ? 64 : 128;
}

void run_rotary_on_cuda(const char* op, RotaryEmbeddingParams& p, const Tensor& query) {
  const bool writes_cache = p.write.slots != nullptr;
  const i64 heads = p.query_heads + (writes_cache ? 2 : 1) * p.key_heads;
  if (heads > kMaxWidth / p.head_size) {
    refuse(ErrorKind::value, op, query, concat("has, with 'key', ", heads, " heads"),
           concat("at most ", kMaxWidth / p.head_size, " of ", p.head_size, " elements"));
  }
  const i64 size = element_size(query.dtype);
  const bool vectors = packs_pairs(p, size);
  const i64 pairs = !vectors ? 1 : (p.is_neox != 0 ? 16 : 8) / size;  // of a thread at once
  const i64 wanted =
      (writes_cache ? p.head_size : p.rotary_size) / 2 / pairs;  // threads for a head
  while ((i64{1} << p.head_bits) < std::min(wanted, kWarp)) ++p.head_bits;
  const i64 lanes = i64{1} << p.head_bits;
  // All threads have the same number of heads, if possible.
  const i64 most = most_threads(p.tokens, writes_cache);
  const i64 iterations = (heads * lanes + most - 1) / most;
  const i64 threads = (heads + iterations - 1) / iterations * lanes;
  const cuda::Grid grid = early_grid(grid_x(p.tokens), 1, block_threads(threads, most));

  Kernels& kernels = (writes_cache     ? and_cache_kernels
                      : p.is_neox != 0 ? neox_kernels
                                       : gptj_kernels)[float_index(query.dtype)];
  const bool rotates_all = !writes_cache || p.rotary_size == p.head_size;
  const bool is_whole = vectors && p.is_neox != 0 && rotates_all &&
                        p.rotary_size / 2 == lanes * pairs && iterations == 1 &&
                        are_few(p.tokens, writes_cache);
  cuda::Kernel& kernel = is_whole ? kernels.whole : vectors ? kernels.packs : kernels.elements;
  run_on_cuda(kernel, grid, p, query);
}

}  // namespace

void require_positions_in_range(const char* op, const Tensor& positions, i64 max_position) {
  const auto* values = static_cast<const i64*>(positions.data);
  for (i64 i = 0; i < positions.shape[0]; ++i) {
    if (values[i] < 0 || values[i] >= max_position) {
      refuse(ErrorKind::index, op, positions, concat("holds ", values[i], " at index ", i),
             concat("0 to ", max_position - 1, ", the rows of 'cos_sin_cache'"));
    }
  }
}

RotaryEmbeddingParams require_rotary(const char* op, const Tensor& positions, const Tensor& query,
                                     const Tensor* key, i64 head_size, const Tensor& cos_sin_cache,
                                     bool is_neox) {
  require_float(op, query);
  require_dtype(op, positions, DType::int64, "");
  require_same_device(op, positions, query);
  require_same_dtype(op, cos_sin_cache, query);
  require_same_device(op, cos_sin_cache, query);
  require_ndim(op, positions, 1, "(tokens,)");
  require_contiguous_last(op, positions);
  if (head_size < 1 || head_size > kMaxWidth) {
    throw Error(ErrorKind::value, concat(op, ": argument 'head_size' is ", head_size,
                                         "; it takes the elements of a head, 1 to ", kMaxWidth));
  }
  require_cos_sin(op, cos_sin_cache, head_size);
  const i64 tokens = positions.shape[0];
  const Heads query_heads = require_heads(op, query, tokens, head_size);
  require_disjoint(op, query, cos_sin_cache, Sharing::none);
  require_disjoint(op, query, positions, Sharing::none);
  Heads key_heads{0, 0, 0};
  if (key != nullptr) {
    require_same_dtype(op, *key, query);
    require_same_device(op, *key, query);
    key_heads = require_heads(op, *key, tokens, head_size);
    require_disjoint(op, *key, query, Sharing::none);
    require_disjoint(op, *key, cos_sin_cache, Sharing::none);
    require_disjoint(op, *key, positions, Sharing::none);
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
  return params;
}

bool rotates_whole_heads(const RotaryEmbeddingParams& params, i64 element_size) {
  return params.is_neox != 0 && params.rotary_size == params.head_size &&
         packs_pairs(params, element_size);
}

void run_rotary(const char* op, RotaryEmbeddingParams params, const Tensor& query) {
  if (params.tokens == 0 || params.query_heads + params.key_heads == 0) return;
  if (query.device_type == DeviceType::cuda) {
    run_rotary_on_cuda(op, params, query);
  } else {
    const i64 heads = params.query_heads + params.key_heads;
    const auto& kernels = params.write.slots != nullptr ? cpu::kernels().rotary_and_cache
                                                        : cpu::kernels().rotary_embedding;
    run_on_cpu(kernels[float_index(query.dtype)], params, params.tokens,
               2 * params.tokens * heads * params.head_size * element_size(query.dtype));
  }
}

}  // namespace vllm::ops
