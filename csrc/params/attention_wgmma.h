// The arguments of the wgmma prefill kernel.
#pragma once

#include "params/attention.h"
#include "params/tensor_map.h"

namespace vllm {

// The maps are of five dimensions: elements of a row that lie in one piece in shared memory, 8
// slots, pieces of a row, groups of 8 slots of a block, and heads: head h of block b is number
// b * block_heads + h, since blocks lie a whole number of heads apart.
struct WgmmaPrefillParams {
  TensorMap keys;
  TensorMap values;
  AttentionLaunchParams launch;  // items[0].rows is their number; the prefill items follow
  int* tickets;                  // [2], 0 between launches: items drawn, CTAs done
  int group;                     // query heads of a KV head
  int key_block_heads;
  int value_block_heads;
  int block_bits;  // 2^block_bits slots in a KV block
  int copy_bits;   // 2^copy_bits slots in a bulk copy: a KV block, or the tile's part of it
  int zero;        // 0, which the compiler does not know
};

}  // namespace vllm
