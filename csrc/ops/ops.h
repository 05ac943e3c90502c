// The ops, on tensors from Python. Each is in a file of the same name: it checks its arguments,
// fills the parameters, chooses a kernel and launches it. A failed check throws Error. params/
// documents what they compute.
#pragma once

#include "runtime/tensor.h"

namespace vllm::ops {

void rms_norm(const Tensor& out, const Tensor& input, const Tensor& weight, double epsilon);

// In place: residual += input, then input = norm(residual) * weight.
void fused_add_rms_norm(const Tensor& input, const Tensor& residual, const Tensor& weight,
                        double epsilon);

void silu_and_mul(const Tensor& out, const Tensor& input);

// out = y or, if gated, silu(y[:, :outputs]) * y[:, outputs:], plus residual, where
// y = x * weight^T + bias, with the norm of x instead of x if there is a norm_weight. For at most
// kFewRows rows. bias, norm_weight and residual may be null.
void few_rows_linear(const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor* bias,
                     const Tensor* norm_weight, double epsilon, bool gated, const Tensor* residual);

// out[t] = table[ids[t]].
void embedding(const Tensor& out, const Tensor& ids, const Tensor& table);

// In place on query and key; key may be null.
void rotary_embedding(const Tensor& positions, const Tensor& query, const Tensor* key,
                      int64_t head_size, const Tensor& cos_sin_cache, bool is_neox);

// The rotary embedding of the query, in place, and of the key, which is stored in the cache with
// the value. Each head is normalized first if its weights are not null.
void rotary_and_cache(const Tensor& positions, const Tensor& query, const Tensor& key,
                      const Tensor& value, const Tensor& cos_sin_cache, const Tensor& key_cache,
                      const Tensor& value_cache, const Tensor& slot_mapping,
                      const Tensor* query_weight, const Tensor* key_weight, double epsilon,
                      bool metadata_ready);

// Writes new keys and values into the slots of a paged cache; slot -1 skips a token.
void reshape_and_cache(const Tensor& key, const Tensor& value, const Tensor& key_cache,
                       const Tensor& value_cache, const Tensor& slot_mapping);

// How CUDA divides the attention of one step. plan_attention writes the items; the caller copies
// them to the device.
struct AttentionPlan {
  Tensor items;           // int32 [items, item_ints]
  Tensor arrivals;        // int32 [arrivals], zeros
  Tensor partials;        // float32 [partials] at least
  int64_t decode_blocks;  // lists of decode items, one per CTA; list i begins at item i
  int64_t prefill_first;  // the index of the first prefill item
  int64_t prefill_tiles;  // their number, or an upper bound
  bool metadata_ready;    // kernels that may still run write neither items nor block tables
  int64_t cluster;        // CTAs of a cluster in rotary_and_attention; 0: separate kernels
};

// Causal attention of the last tokens of each sequence over all of its tokens in the cache.
// plan: null on the CPU, which needs none.
void paged_attention(const Tensor& out, const Tensor& query, const Tensor& key_cache,
                     const Tensor& value_cache, const Tensor& block_tables,
                     const Tensor& context_lens, const Tensor& query_starts, double scale,
                     int64_t sliding_window, double soft_cap, const Tensor* sinks, double key_scale,
                     double value_scale, const AttentionPlan* plan);

// rotary_and_cache, then paged_attention; the query's rotation is not stored.
void rotary_and_attention(const Tensor& out, const Tensor& positions, const Tensor& query,
                          const Tensor& key, const Tensor& value, const Tensor& cos_sin_cache,
                          const Tensor& key_cache, const Tensor& value_cache,
                          const Tensor& slot_mapping, const Tensor& block_tables,
                          const Tensor& context_lens, const Tensor& query_starts, double scale,
                          int64_t sliding_window, double soft_cap, const Tensor* query_weight,
                          const Tensor* key_weight, double epsilon, const AttentionPlan* plan);

// The CTAs (thread blocks) that a GPU runs at once for heads of this size, among which
// plan_attention divides the work: of the decode kernel, and of the prefill kernel.
int64_t attention_blocks(int64_t head_size, int64_t device);
int64_t prefill_blocks(int64_t head_size, int64_t device);

// At most so many prefill items of a step, each for all KV heads, run with a CTA for each head of
// each at once, by the prefill kernel for few items; 0 without that kernel.
int64_t few_prefill_items(int64_t kv_heads, int64_t head_size, int64_t device);

// The cluster size with which rotary_and_attention should run as one kernel for so many sequences,
// on a GPU that runs `blocks` CTAs; 0 if separate kernels are better.
int64_t attention_cluster(int64_t sequences, int64_t heads, int64_t kv_heads, int64_t head_size,
                          int64_t blocks, int64_t device);

// Whether all keys and values that a step reads were in the cache before it, except the newest of
// each sequence: the condition for rotary_and_attention as one kernel. All tensors are on the CPU.
bool keys_are_ready(const Tensor& context_lens, const Tensor& query_starts,
                    const Tensor& block_tables, int64_t block_size);

// The memory of a plan.
struct AttentionPlanSizes {
  int64_t items;      // enough for any step of so many tokens and sequences
  int64_t item_ints;  // int32 of an item
  int64_t arrivals;   // counters: of the partial results, and of the prefill items drawn
  int64_t partials;
  int64_t prefill_tiles;  // the most prefill items among them
};
AttentionPlanSizes attention_plan_sizes(int64_t tokens, int64_t sequences, int64_t heads,
                                        int64_t kv_heads, int64_t head_size, int64_t blocks);

struct AttentionPlanCounts {
  int64_t decode_blocks;
  int64_t prefill_first;
  int64_t prefill_tiles;
  int64_t items;    // of all kinds
  int64_t cluster;  // the argument, or 0 if the step also has prefill items
};

// Divides the decode attention of a step among `blocks` CTAs, and prefills that have few tiles
// among `prefill_blocks` <= blocks. few_items: see few_prefill_items. All tensors are on the CPU.
AttentionPlanCounts plan_attention(const Tensor& items, const Tensor& context_lens,
                                   const Tensor& query_starts, int64_t heads, int64_t kv_heads,
                                   int64_t sliding_window, int64_t blocks, int64_t prefill_blocks,
                                   const Tensor* block_tables, int64_t block_size, int64_t cluster,
                                   int64_t few_items);

// Whether a GPU's kernels can read the keys of a shared prefix once for all sequences that share
// it.
bool attention_shares(int64_t head_size, int64_t block_size, int64_t device);

// Copies between a GPU and pinned host memory, by a kernel.
void copy_pinned(const Tensor& out, const Tensor& input);

// A kernel that waits until gate[0] >= due[0], where gate is in pinned host memory. After so many
// nanoseconds it goes on, and writes due[0] to gate[1].
void wait_for_host(const Tensor& gate, const Tensor& due, int64_t nanoseconds);

// gate[0] = value, after all that this thread has written or seen written.
void tell_device(const Tensor& gate, int64_t value);

// Initialises token counters, each with a list of tokens.
void count_tokens(const Tensor& seen, const Tensor& uses, const Tensor& counters,
                  const Tensor& starts, const Tensor& tokens, const Tensor& counts);

// Counts the newest token of each row that has a counter, then penalises the tokens in its counter.
void penalize(const Tensor& logits, const Tensor& inputs, const Tensor& counters,
              const Tensor& counts, const Tensor& repetition, const Tensor& presence,
              const Tensor& frequency, const Tensor& seen, const Tensor& uses);

// Adds to single logits in place.
void bias_logits(const Tensor& logits, const Tensor& rows, const Tensor& tokens,
                 const Tensor& amounts, const Tensor& after, const Tensor& inputs);

// Excludes tokens from rows of logits, in place, by a bit mask.
void mask_logits(const Tensor& logits, const Tensor& rows, const Tensor& bits);

// Draws a token from every row of logits. A sampling parameter is null if no row uses it;
// `workspace` is for CUDA only.
void sample(const Tensor& out, const Tensor& logits, const Tensor* temperatures,
            const Tensor* top_k, const Tensor* top_p, const Tensor* min_p, const Tensor* seeds,
            const Tensor* draws, const Tensor* workspace);

// int64 elements that sample needs on CUDA.
int64_t sample_workspace_size(int64_t rows, int64_t vocab);

// The ranks of one host, and the memory through which they exchange rows (ExchangeLayout).
struct PeerGroup {
  Tensor addresses;  // int64 [ranks] on the CPU: each rank's memory, as mapped in this one
  int64_t rank;
  int64_t rows;       // that can be exchanged at once
  int64_t row_bytes;  // of the widest
  int64_t stop;       // host address of an unsigned; 1 makes kernels stop waiting for other ranks
};

// Bytes of a rank's memory.
int64_t exchange_bytes(int64_t ranks, int64_t rows, int64_t row_bytes);

// out = the sum of all ranks' inputs; only on CUDA. All ranks call it, with the same shape and the
// same `two_shots`. peers: never null.
void all_reduce(const Tensor& out, const Tensor& input, bool two_shots, const PeerGroup* peers);

// fused_add_rms_norm of the sum of all ranks' inputs, in place.
void all_reduce_add_rms_norm(const Tensor& input, const Tensor& residual, const Tensor& weight,
                             double epsilon, bool two_shots, const PeerGroup* peers);

}  // namespace vllm::ops
