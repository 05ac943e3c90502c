// A consumer warpgroup of the wgmma prefill kernels: it multiplies 64 query rows of an item.
#pragma once

#include "kernels/attention/attention_wgmma_load.cuh"
#include "kernels/attention/attention_wgmma_merge.cuh"
#include "kernels/attention/attention_wgmma_rows.cuh"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

// A consumer warpgroup: it computes 64 query rows of each item. kAlone: the CTA has one item only,
// whose partial results it leaves to merge_together.
template <typename T, int kHead, bool kCap, bool kAlone = false>
class RowWarpgroup {
  using Shared = WgmmaShared<kHead>;
  using Rows = WgmmaRows<kHead>;
  using Softmax = WgmmaSoftmax<T, kHead>;
  static constexpr int kKeys = Shared::kKeys;
  // The threads of the warpgroup, which synchronise at named barrier 1 or 2.
  struct Team {
    int group;
    __device__ int thread() const { return static_cast<int>(threadIdx.x % 128); }
    __device__ int size() const { return 128; }
    __device__ void wait() const { asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory"); }
    __device__ bool any(bool value) const {
      unsigned result;
      asm volatile(
          "{\n.reg .pred p;\nsetp.ne.u32 p, %1, 0;\nbar.red.or.pred p, %2, 128, p;\n"
          "selp.u32 %0, 1, 0, p;\n}\n"
          : "=r"(result)
          : "r"(static_cast<unsigned>(value)), "r"(group + 1)
          : "memory");
      return result != 0;
    }
  };
  static constexpr int kKeyPieces = kHead / 16;    // wgmma instructions for queries and keys
  static constexpr int kValuePieces = kKeys / 16;  // and for weights and values

 public:
  __device__ RowWarpgroup(const WgmmaPrefillParams& params, const Shared& shared)
      : p_(params),
        shared_(shared),
        scoring_(params.launch.attention),
        group_(__shfl_sync(kFullWarp, threadIdx.x / 128, 0) - 1),
        warp_(threadIdx.x / 32 % 4),
        lane_(threadIdx.x % 32),
        query_(matrix_descriptor<Rows::kRowBytes>(
            shared.query + group_ * kWgmmaRows / 8 * Rows::kGroupBytes, 16, Rows::kGroupBytes)) {}

  // Computes the CTA's items, one after another.
  __device__ __forceinline__ void run() {
    Softmax rows;
    if (kTurns && group_ == 1) end_turn();  // the first warpgroup begins
    for (unsigned parity = 0;; parity ^= 1) {
      const AttentionItem item = items_.next(shared_);
      if (item.rows == 0) return;
      wait(shared_.query_full(group_), parity);
      if (group_ * kWgmmaRows < item.rows) {
        attend(item, rows);
      } else {
        pass_over(item);
      }
    }
  }

  // Computes the CTA's only item.
  __device__ __forceinline__ void run(const AttentionItem& item) {
    Softmax rows;
    if (kTurns && group_ == 1) end_turn();
    wait(shared_.query_full(group_), 0);
    if (group_ * kWgmmaRows < item.rows) {
      attend(item, rows);
    } else {
      pass_over(item);
    }
  }

 private:
  // The query token of a row of the item. Rows beyond the item's end repeat its last row.
  __device__ int token_of(const AttentionItem& item, int row) const {
    return (item.row + min(row, item.rows - 1)) / p_.group;
  }
  // The factor from products (with a soft cap: from tanh) to scores.
  __device__ float scale() const { return kCap ? scoring_.cap : scoring_.scale; }
  __device__ int first_key(int last) const {
    const int window = static_cast<int>(p_.launch.attention.sliding_window);
    return window > 0 ? max(last - window + 1, 0) : 0;
  }

  __device__ __forceinline__ void attend(const AttentionItem& item, Softmax& rows) {
    const int row = group_ * kWgmmaRows + 16 * warp_ + lane_ / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int last = item.position + token_of(item, row + 8 * i);
      last_[i] = last - 2 * (lane_ % 4);
      first_[i] = first_key(last) - 2 * (lane_ % 4);
    }
    seen_begin_ = first_key(item.position + token_of(item, group_ * kWgmmaRows + kWgmmaRows - 1));
    seen_end_ = item.position + token_of(item, group_ * kWgmmaRows) + 1;
    const int first = Shared::first_tile(item), last = Shared::last_tile(item);
    // Whole tiles need no mask: all rows attend to all of their keys, and every row has already
    // seen a later key, so that it has a base.
    const int whole_begin = max(first, (seen_begin_ + kKeys - 1) / kKeys);
    const int whole_end = (seen_end_ - 1) / kKeys;
    const auto whole = [&](int tile) { return tile >= whole_begin && tile < whole_end; };

    rows.clear();
    hold(rows.out);
    takes_turns_ = kTurns && item.rows > kWgmmaRows;
    wait(shared_.keys_full(keys_.stage), keys_.parity);
    multiply_keys(rows);
    wgmma_wait<0>();
    hold(rows.scores);
    release(shared_.keys_empty(keys_.stage));
    keys_.advance();
    weigh(last, rows);
    rows.round();
    for (int tile = last - 1; tile >= first;) {
      while (whole(tile)) step<false>(tile--, rows);
      if (tile >= first) step<true>(tile--, rows);
    }
    release(shared_.query_empty(group_));
    wait(shared_.values_full(values_.stage), values_.parity);
    hold(rows.weights);
    hold(rows.out);
    multiply_values(rows);
    wgmma_wait<0>();
    hold(rows.out);
    release(shared_.values_empty(values_.stage));
    values_.advance();
    if (item.splits == 1 && item.next != kForDecode) {
      write(item, row, rows);
    } else {
      write_partials(item, rows);
    }
  }

  // One pipelined step: starts the products with this tile's keys and those with the previously
  // processed tile's values, then computes this tile's weights.
  template <bool kMask>
  __device__ __forceinline__ void step(int tile, Softmax& rows) {
    wait(shared_.keys_full(keys_.stage), keys_.parity);
    hold(rows.scores);
    hold(rows.weights);
    hold(rows.out);
    multiply_keys(rows);
    wait(shared_.values_full(values_.stage), values_.parity);
    multiply_values(rows);
    wgmma_wait<1>();
    hold(rows.scores);
    const unsigned keys_used = shared_.keys_empty(keys_.stage);
    const unsigned values_used = shared_.values_empty(values_.stage);
    const unsigned keys = shared_.keys(keys_.stage);
    keys_.advance();
    values_.advance();
    if (kMask) {
      release(keys_used);
      const float2 factors = weigh(tile, rows);
      wait_for_values(values_used, rows);
      rows.template scale_out<0>(factors.x);
      rows.template scale_out<1>(factors.y);
      rows.round();
    } else {
      weigh_by_base(values_used, rows);
      float sums[2];
      sums[0] = rows.template row_sum<0>();
      rows.template round_row<0>();
      sums[1] = rows.template row_sum<1>();
      rows.template round_row<1>();
      const unsigned query =
          shared_.query + (group_ * kWgmmaRows + 16 * warp_) / 8 * Rows::kGroupBytes;
      rows.template limit_weights<kCap>(sums, scoring_, query, keys);
      release(keys_used);
      rows.sum[0] += sums[0];
      rows.sum[1] += sums[1];
    }
  }

  // Converts the products of a whole tile to weights. Waits for the products with values between
  // the two rows or, if the warpgroups take turns, after both.
  __device__ __forceinline__ void weigh_by_base(unsigned values_used, Softmax& rows) {
    if (kCap) rows.cap(scoring_);
    if (kTurns) {
      if (takes_turns_) take_turn();
      rows.template weigh_by_base<0>(scale());
      rows.template weigh_by_base<1>(scale());
      if (takes_turns_) end_turn();
      keep_behind(p_.zero, rows.base[1], rows.scores[0], rows.scores[1]);
      wait_for_values(values_used, rows);
      return;
    }
    rows.template weigh_by_base<0>(scale());
    keep_behind(p_.zero, rows.base[1], rows.scores[0], rows.scores[1]);
    wait_for_values(values_used, rows);
    rows.template weigh_by_base<1>(scale());
  }

  // Converts the products of a tile to weights, with the mask and the soft cap. Returns the factors
  // for the running results.
  __device__ __forceinline__ float2 weigh(int tile, Softmax& rows) {
    const int begin = tile * kKeys;
    if (kCap) rows.cap(scoring_);
    if (begin + kKeys > seen_end_) rows.mask_after(last_[0] - begin, last_[1] - begin);
    if (begin < seen_begin_) rows.mask_before(first_[0] - begin, first_[1] - begin);
    if (takes_turns_) take_turn();
    const float first = rows.template weigh_row<0>(scale());
    const float second = rows.template weigh_row<1>(scale());
    if (takes_turns_) end_turn();
    return make_float2(first, second);
  }

  // Ping-pong scheduling, as in FlashAttention-3: with heads of 64 the exponentials of a tile take
  // as long as its products. If both warpgroups computed exponentials at once, they would share one
  // unit and then both leave it idle. So they take turns, one tile each.
  static constexpr bool kTurns = kHead <= 64 && !kCap;
  __device__ void take_turn() const {
    asm volatile("bar.sync %0, 256;" ::"r"(group_ + 3) : "memory");
  }
  __device__ void end_turn() const {
    asm volatile("bar.arrive %0, 256;" ::"r"(4 - group_) : "memory");
  }

  __device__ __forceinline__ void wait_for_values(unsigned used, Softmax& rows) {
    wgmma_wait<0>();
    hold(rows.out);
    hold(rows.weights);
    release(used);
  }

  __device__ __forceinline__ void multiply_keys(Softmax& rows) {
    const unsigned long long keys =
        matrix_descriptor<Rows::kRowBytes>(shared_.keys(keys_.stage), 16, Rows::kGroupBytes);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kKeyPieces; ++k) {
      Wgmma<T, kKeys>::products(rows.scores, descriptor_at(query_, Rows::columns(k)),
                                descriptor_at(keys, Rows::columns(k)), k > 0);
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void multiply_values(Softmax& rows) {
    const unsigned long long values = matrix_descriptor<Rows::kRowBytes>(
        shared_.values(values_.stage), Rows::kPieceBytes, Rows::kGroupBytes);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kValuePieces; ++k) {
      Wgmma<T, kHead>::weigh(rows.out, rows.weights + 4 * k,
                             descriptor_at(values, 2 * k * Rows::kGroupBytes), 1);
    }
    wgmma_commit();
  }

  // Signals that this warp has read a buffer.
  __device__ __forceinline__ void release(unsigned empty) const {
    if (lane_ == 0) arrive(empty);
  }

  // Skips an item without rows for this warpgroup: releases its buffers.
  __device__ __forceinline__ void pass_over(const AttentionItem& item) {
    release(shared_.query_empty(group_));
    for (int tile = Shared::last_tile(item); tile >= Shared::first_tile(item); --tile) {
      wait(shared_.keys_full(keys_.stage), keys_.parity);
      __syncwarp();
      release(shared_.keys_empty(keys_.stage));
      keys_.advance();
      wait(shared_.values_full(values_.stage), values_.parity);
      __syncwarp();
      release(shared_.values_empty(values_.stage));
      values_.advance();
    }
  }

  // For an item that is split over keys: writes a partial result. The last warpgroup to do so for
  // these rows adds up all of them.
  __device__ __forceinline__ void write_partials(const AttentionItem& item, Softmax& rows) {
    if (kAlone && item.next != kForDecode) {
      leave(item, rows);
      return;
    }
    write_partial<0>(item, rows);
    write_partial<1>(item, rows);
    if (item.next == kForDecode) return;
    const Team team{group_};
    const int first = group_ * kWgmmaRows / kDecodeRows;
    if (!is_last(p_.launch, row_group(item, item.kv_head, first).first_slot, item.splits, team)) {
      return;
    }
    for (int g = first; g < first + kWgmmaRows / kDecodeRows; ++g) {
      const AttentionItem part = row_group(item, item.kv_head, g);
      if (part.rows <= 0) break;
      add_up<T>(p_.launch, part, part.first_slot, item.splits, kFinal, kHead, team);
    }
  }
  // Leaves a partial result to merge_together.
  __device__ __forceinline__ void leave(const AttentionItem& item, Softmax& rows) const {
    using Of = Fragments<kHead>;
    const Of all(p_.launch, row_group(item, item.kv_head, 0).first_slot);
    const int warp = 4 * group_ + warp_;
    const float first = quad_sum(rows.sum[0]), second = quad_sum(rows.sum[1]);
    if (16 * warp >= item.rows) return;
#pragma unroll
    for (int i = 0; i < kHead / 8; ++i) {
      *all.values(item.split, Of::index_of(warp, i, lane_)) = make_float4(
          rows.out[4 * i], rows.out[4 * i + 1], rows.out[4 * i + 2], rows.out[4 * i + 3]);
    }
    if (lane_ % 4 == 0) {
      *all.weights(item.split, Of::index_of(warp, 0, lane_)) =
          make_float4(rows.base[0], first, rows.base[1], second);
    }
  }
  template <int kRow>
  __device__ __forceinline__ void write_partial(const AttentionItem& item, Softmax& rows) {
    const AttentionItem part =
        row_group(item, item.kv_head, (group_ * kWgmmaRows + 16 * warp_) / kDecodeRows + kRow);
    const i64 at = static_cast<i64>(part.first_slot + part.split) * kDecodeRows + lane_ / 4;
    const bool exists = lane_ / 4 < part.rows;
    rows.template write_partial<kRow>(exists ? p_.launch.partials + at * kHead : nullptr,
                                      reinterpret_cast<float2*>(p_.launch.weights) + at);
  }

  __device__ __forceinline__ void write(const AttentionItem& item, int row, Softmax& rows) {
    T* to[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = item.row + row + 8 * i, token = at / p_.group;
      const RowPlace place{item.token + token, item.kv_head * p_.group + at - token * p_.group, 0,
                           0};
      to[i] = row + 8 * i < item.rows ? out_row<T>(p_.launch.attention, place) : nullptr;
    }
    rows.write(to);
  }

  const WgmmaPrefillParams& p_;
  const Shared shared_;
  const Scoring scoring_;
  const int group_, warp_, lane_;
  const unsigned long long query_;
  ItemReader<kHead> items_;
  Ring<Shared::kStages> keys_{0, 0}, values_{0, 0};
  int first_[2], last_[2];     // keys that the lane's rows attend to, minus the lane's first column
  int seen_begin_, seen_end_;  // keys that all rows of the warpgroup attend to
  bool takes_turns_;           // with the other warpgroup, which has rows too
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
