// The arguments of all-reduce, and the layout of the peer memory through which ranks exchange rows:
// one allocation in each rank, which all ranks write to.
#pragma once

#include "params/types.h"

namespace vllm {

constexpr int kMostRanks = 8;  // GPUs of one host, with peer access to each other
constexpr int kRowPacks = 2;   // packs of 16 bytes of a row that a thread holds, at most
constexpr int kMostBlockThreads = 1024;
constexpr i64 kMostRowPacks = kRowPacks * kMostBlockThreads;
constexpr int kExchangeEmpty = 0xff;  // each byte of a place that has received nothing
constexpr i64 kExchangeAlignment = 16;

// A rank's memory: for each row its turn, 0 or 1, which is the buffer that is used next; then
// places for incoming rows, [turn][source][row], where source is a rank, or `ranks` for the sum
// from the row's owner.
struct ExchangeLayout {
  i64 rows;       // that can be exchanged at once
  i64 row_bytes;  // a multiple of kExchangeAlignment
  int ranks;

  constexpr i64 places_offset() const {
    return (rows * static_cast<i64>(sizeof(unsigned)) + kExchangeAlignment - 1) /
           kExchangeAlignment * kExchangeAlignment;
  }
  constexpr i64 place(unsigned turn, int source, i64 row) const {
    return places_offset() + ((turn * (ranks + 1) + source) * rows + row) * row_bytes;
  }
  constexpr i64 bytes() const { return place(2, 0, 0); }
};

// out[r, :] = the sum of all ranks' input[r, :], added in float32 in the order of the ranks and
// rounded once. With `residual` set: residual[r, :] += that sum, rounded, and out is the RMS norm
// of the new residual, as RmsNormParams has it.
struct AllReduceParams {
  void* out;                 // [rows, width]
  const void* input;         // [rows, width]; may be out
  void* residual;            // [rows, width] or null
  const void* weight;        // [width], with residual
  char* memory[kMostRanks];  // of each rank, at this rank's address for it
  const unsigned* stop;      // on the host: not 0 makes kernels stop waiting for other ranks
  ExchangeLayout layout;
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 input_stride;
  i64 residual_stride;
  int rank;
  float epsilon;
};

}  // namespace vllm
