#include "ops/attention/block_lists.h"

namespace vllm::ops {
namespace {

// Chunks that may be added to a list to avoid a cut. A cut costs a CTA about the time of reading 8
// chunks (H200), and the CTA with the other part the same.
constexpr i64 kCutChunks = 16;

}  // namespace

i64 chunks(const AttentionItem& item) { return divide_up(item.end, kChunk) - item.begin / kChunk; }

i64 lanes_of(i64 kv_heads, i64 teams) {
  i64 lanes = kv_heads;
  while (lanes > 1 && (kv_heads % lanes != 0 || teams % lanes * 32 > teams)) --lanes;
  return lanes;
}

BlockLists::BlockLists(AttentionItem* items, i64 capacity, const Teams& teams, i64 first, i64 lanes,
                       i64 total)
    : items_(items),
      capacity_(capacity),
      groups_(teams.count / lanes),
      turn_(teams.warps),
      // A whole number of turns keeps all warps busy.
      quota_(std::max<i64>(divide_up(divide_up(total, groups_), turn_), 1) * turn_),
      slack_(teams.spared_turns > 0 ? teams.spared_turns * turn_
                                    : std::min(kCutChunks, quota_ / 8 / turn_ * turn_)),
      used_(first),
      left_(total),
      room_(quota_),
      last_(static_cast<size_t>(lanes), -1) {}

void BlockLists::add(const AttentionItem& whole) {
  pieces_.clear();
  pieces_.reserve(last_.size());  // most items are not cut
  const i64 end = divide_up(whole.end, kChunk);
  for (i64 chunk = whole.begin / kChunk; chunk < end;) {
    if (room_ == 0) next_group();
    i64 count = std::min(room_, end - chunk);
    if (end - chunk - count <= slack_) count = end - chunk;
    AttentionItem piece = whole;
    piece.begin = static_cast<int>(std::max<i64>(whole.begin, chunk * kChunk));
    piece.end = static_cast<int>(std::min<i64>(whole.end, (chunk + count) * kChunk));
    append(piece);
    chunk += count;
    left_ -= count;
    room_ = std::max<i64>(room_ - count, 0);
    // The rest of a group's room stays unused if the quotas of the other groups suffice.
    if (room_ <= slack_ && left_ <= quota_ * (groups_ - 1 - group_)) room_ = 0;
  }
  number_splits();
}

void BlockLists::next_group() {
  ++group_;
  std::fill(last_.begin(), last_.end(), -1);
  room_ = quota_;
}

// Appends the piece to the list of each team of the group, for the team's KV head.
void BlockLists::append(AttentionItem piece) {
  for (i64 lane = 0; lane < lanes(); ++lane, ++piece.kv_head) {
    i64& last = last_[static_cast<size_t>(lane)];
    // A list begins at its own number.
    const i64 index = last < 0 ? group_ * lanes() + lane : used_++;
    if (last >= 0 && at(last) != nullptr) at(last)->next = static_cast<int>(index);
    if (at(index) != nullptr) *at(index) = piece;
    last = index;
    pieces_.push_back(index);
  }
}

void BlockLists::number_splits() {
  const int splits = static_cast<int>(static_cast<i64>(pieces_.size()) / lanes());
  if (splits <= 1) return;
  const int slots = splits + merge_groups(splits);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    AttentionItem* piece = at(pieces_[i]);
    if (piece == nullptr) continue;
    const int lane = static_cast<int>(i % last_.size());
    piece->first_slot = slots_ + lane * slots;
    piece->split = static_cast<int>(i / last_.size());
    piece->splits = splits;
  }
  slots_ += static_cast<int>(lanes()) * slots;
}

}  // namespace vllm::ops
