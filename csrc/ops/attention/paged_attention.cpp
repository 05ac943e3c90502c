#include <cmath>

#include "ops/attention/paged_attention.h"
#include "ops/cache/cache.h"
#include "ops/common/launch.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "paged_attention";

void require_query(const char* op, const Tensor& query, const Cache& cache) {
  require_ndim(op, query, 3, "(tokens, heads, head_size)");
  require_contiguous_last(op, query);
  if (query.shape[2] % 8 != 0 || query.shape[2] < 8 || query.shape[2] > cpu::kMaxHeadSize) {
    refuse(ErrorKind::value, op, query, concat("has shape ", shape_text(query)),
           concat("heads of 8 to ", cpu::kMaxHeadSize, " elements, in steps of 8"));
  }
  if (query.shape[2] != cache.head_size || cache.kv_heads < 1 ||
      query.shape[1] % cache.kv_heads != 0) {
    refuse(ErrorKind::value, op, query, concat("has shape ", shape_text(query)),
           concat("(tokens, heads, ", cache.head_size, ") with a multiple of ", cache.kv_heads,
                  " heads, by 'key_cache'"));
  }
}

float require_number(const char* op, const char* name, double value, bool may_be_negative) {
  if (!std::isfinite(value) || (value < 0 && !may_be_negative)) {
    throw Error(ErrorKind::value,
                concat(op, ": argument '", name, "' is ", value, "; it takes a finite number",
                       may_be_negative ? "" : " that is not negative"));
  }
  return static_cast<float>(value);
}

// Refuses what the interface has arguments for but no kernel supports.
void refuse_what_has_no_kernel(const Tensor& key_cache, const Tensor& value_cache,
                               const Tensor* sinks, double key_scale, double value_scale) {
  if (sinks != nullptr) {
    refuse(ErrorKind::value, kOp, *sinks, concat("has shape ", shape_text(*sinks)),
           "None: attention sinks have no kernel yet");
  }
  for (const auto& [name, scale] :
       {std::pair{"key_scale", key_scale}, {"value_scale", value_scale}}) {
    if (scale != 1.0) {
      throw Error(ErrorKind::value, concat(kOp, ": argument '", name, "' is ", scale,
                                           "; it takes 1: caches in FP8 have no kernel yet"));
    }
  }
  if (key_cache.ndim == 4 && value_cache.ndim == 4 && key_cache.shape[3] != value_cache.shape[3]) {
    refuse(ErrorKind::value, kOp, value_cache, concat("has shape ", shape_text(value_cache)),
           concat("heads of ", key_cache.shape[3],
                  " elements, as 'key_cache' has: values of another size than keys have no kernel "
                  "yet"));
  }
}

// The first key that the sequence's first query sees.
i64 first_key(const PagedAttentionParams& p, i64 sequence) {
  if (p.sliding_window == 0) return 0;
  const i64 queries = p.query_starts[sequence + 1] - p.query_starts[sequence];
  return std::max<i64>(p.context_lens[sequence] - queries + 1 - p.sliding_window, 0);
}

// Checks every index that the kernel will follow, so that a wrong one leaves `out` unchanged (CPU
// only).
void require_in_range(const char* op, const PagedAttentionParams& p, const Tensor& query_starts,
                      const Tensor& context_lens, const Tensor& block_tables, i64 blocks) {
  const auto holds = [](i64 value, i64 index) {
    return concat("holds ", value, " at index ", index);
  };
  if (p.query_starts[0] != 0 || p.query_starts[p.sequences] != p.tokens) {
    refuse(ErrorKind::value, op, query_starts,
           concat("goes from ", p.query_starts[0], " to ", p.query_starts[p.sequences]),
           concat("0 to ", p.tokens, ", the tokens of 'query'"));
  }
  for (i64 i = 0; i < p.sequences; ++i) {
    const i64 queries = p.query_starts[i + 1] - p.query_starts[i];
    if (queries < 0) {
      refuse(ErrorKind::value, op, query_starts, holds(p.query_starts[i + 1], i + 1),
             concat("numbers that never fall (", p.query_starts[i], " comes before)"));
    }
    const i64 room = block_tables.shape[1] * p.block_size;
    if (p.context_lens[i] < queries || p.context_lens[i] > room) {
      refuse(ErrorKind::value, op, context_lens, holds(p.context_lens[i], i),
             concat(queries, ", the query tokens of that sequence, to ", room,
                    ", the tokens that a row of 'block_tables' has room for"));
    }
    if (queries == 0) continue;
    const int* table = p.block_tables + i * p.block_tables_stride;
    const i64 used = (p.context_lens[i] + p.block_size - 1) / p.block_size;
    for (i64 j = first_key(p, i) / p.block_size; j < used; ++j) {
      if (table[j] < 0 || table[j] >= blocks) {
        refuse(ErrorKind::index, op, block_tables,
               concat("holds ", table[j], " at [", i, ", ", j, "]"),
               concat("0 to ", blocks - 1, ", the blocks of 'key_cache'"));
      }
    }
  }
}

// What would be read if every query token read its keys and values by itself.
i64 bytes_read(const PagedAttentionParams& p, i64 element) {
  i64 keys = 0;
  for (i64 i = 0; i < p.sequences; ++i) {
    keys += (p.query_starts[i + 1] - p.query_starts[i]) * (p.context_lens[i] - first_key(p, i));
  }
  return 2 * keys * p.kv_heads * p.head_size * element;
}

}  // namespace

PagedAttentionParams require_paged_attention(const char* op, const Tensor& out, const Tensor& query,
                                             const Tensor& key_cache, const Tensor& value_cache,
                                             const Tensor& block_tables, const Tensor& context_lens,
                                             const Tensor& query_starts, double scale,
                                             int64_t sliding_window, double soft_cap) {
  require_float(op, query);
  const Cache keys = require_cache(op, key_cache, query);
  require_same_shape(op, value_cache, key_cache);
  const Cache values = require_cache(op, value_cache, query);
  require_query(op, query, keys);
  require_same_dtype(op, out, query);
  require_same_device(op, out, query);
  require_same_shape(op, out, query);
  require_contiguous_last(op, out);
  require_writable(op, out);
  for (const Tensor* tensor : {&block_tables, &context_lens, &query_starts}) {
    require_dtype(op, *tensor, DType::int32, "");
    require_same_device(op, *tensor, query);
  }
  require_ndim(op, block_tables, 2, "(sequences, max_blocks)");
  require_contiguous_last(op, block_tables);
  const i64 sequences = block_tables.shape[0];
  require_vector(op, context_lens, sequences, "the rows of 'block_tables'");
  require_vector(op, query_starts, sequences + 1, "one more than the rows of 'block_tables'");
  for (const Tensor* read :
       {&query, &key_cache, &value_cache, &block_tables, &context_lens, &query_starts}) {
    require_disjoint(op, out, *read, read == &query ? Sharing::may_be_same : Sharing::none);
  }
  if (sliding_window < 0) {
    throw Error(ErrorKind::value, concat(op, ": argument 'sliding_window' is ", sliding_window,
                                         "; it takes a number of tokens, or 0 for no window"));
  }

  PagedAttentionParams params{};
  params.out = out.data;
  params.query = query.data;
  params.key_cache = key_cache.data;
  params.value_cache = value_cache.data;
  params.block_tables = static_cast<const int*>(block_tables.data);
  params.context_lens = static_cast<const int*>(context_lens.data);
  params.query_starts = static_cast<const int*>(query_starts.data);
  params.tokens = query.shape[0];
  params.sequences = sequences;
  params.blocks = keys.blocks;
  params.heads = query.shape[1];
  params.kv_heads = keys.kv_heads;
  params.head_size = keys.head_size;
  params.block_size = keys.block_size;
  params.out_token_stride = out.strides[0];
  params.out_head_stride = out.strides[1];
  params.query_token_stride = query.strides[0];
  params.query_head_stride = query.strides[1];
  params.key_block_stride = keys.block_stride;
  params.key_slot_stride = keys.slot_stride;
  params.key_head_stride = keys.head_stride;
  params.value_block_stride = values.block_stride;
  params.value_slot_stride = values.slot_stride;
  params.value_head_stride = values.head_stride;
  params.block_tables_stride = block_tables.strides[0];
  params.sliding_window = sliding_window;
  params.scale = require_number(op, "scale", scale, true);
  params.soft_cap = require_number(op, "soft_cap", soft_cap, false);

  if (query.device_type == DeviceType::cpu) {
    require_in_range(op, params, query_starts, context_lens, block_tables, keys.blocks);
  }
  return params;
}

void run_paged_attention(const char* op, const PagedAttentionParams& params, const Tensor& out,
                         const Tensor& query, const AttentionPlan* plan) {
  if (query.device_type == DeviceType::cuda) {
    run_paged_attention_on_cuda(op, params, out, query, plan);
    return;
  }
  if (params.tokens == 0 || params.heads == 0) return;
  run_on_cpu(cpu::kernels().paged_attention[float_index(query.dtype)], params,
             params.tokens * params.kv_heads, bytes_read(params, element_size(query.dtype)));
}

void paged_attention(const Tensor& out, const Tensor& query, const Tensor& key_cache,
                     const Tensor& value_cache, const Tensor& block_tables,
                     const Tensor& context_lens, const Tensor& query_starts, double scale,
                     int64_t sliding_window, double soft_cap, const Tensor* sinks, double key_scale,
                     double value_scale, const AttentionPlan* plan) {
  refuse_what_has_no_kernel(key_cache, value_cache, sinks, key_scale, value_scale);
  const PagedAttentionParams params =
      require_paged_attention(kOp, out, query, key_cache, value_cache, block_tables, context_lens,
                              query_starts, scale, sliding_window, soft_cap);
  run_paged_attention(kOp, params, out, query, plan);
}

}  // namespace vllm::ops
