// Attention of a decode step that is one launch (decode_step): the warps of a block of threads that
// attend have a key tile each in turn, so each has sums of its own; what they have of a selection
// is joined in shared memory and left as one part; at the end blocks of threads add up the parts of
// some rows each, once these are there. A part lies in slot block + selection: since every piece
// begins where the one before ends, the next part has a higher number of either, so no two share a
// slot, and those of one selection follow each other.
#pragma once
#include "winnow/parts.cuh"
#include "winnow/step_exchange.cuh"

// {maximum, sum of weights} of a part's head, as a word that blocks of threads tell each other
// (step_exchange.cuh); its values can be read once it is there.
__device__ __forceinline__ unsigned long long *part_state(void *states, int slot, int heads,
                                                          int head) {
  return static_cast<unsigned long long *>(states) + static_cast<long long>(slot) * heads + head;
}

// What warps that attend tell each other: maxima and sums of each, and weighted values, half of a
// row's columns at a time, in an order without bank conflicts.
template <int kWarps, int kValueDim> struct JoinedSums {
  static constexpr int kRows = 16, kColumns = kValueDim / 2;
  static constexpr int kStates = 4 * kWarps * kRows * kColumns;
  static constexpr int kBytes = kStates + 8 * kWarps * kRows;
  unsigned char *bytes;
  explicit __device__ __forceinline__ JoinedSums(unsigned char *bytes) : bytes(bytes) {}
  __device__ __forceinline__ float2 &state(int warp, int row) const {
    return reinterpret_cast<float2 *>(bytes + kStates)[warp * kRows + row];
  }
  __device__ __forceinline__ float *values(int warp, int row, int column) const {
    constexpr int kTiles = kColumns / 8, kSwapped = kTiles & -kTiles; // stays among the columns
    const int swizzled = column ^ 8 * (row & (kSwapped - 1) & 7);
    return reinterpret_cast<float *>(bytes) + (warp * kRows + row) * kColumns + swizzled;
  }
};

// Of a selection's part: the slot in which it lies.
__device__ __forceinline__ int part_slot(const StepItem &item, int block) {
  return block + item.selection;
}

// Two objects in the same bytes: the second takes the place of the first when nobody reads that any
// more.
template <class First, class Second> struct Overlay {
  static constexpr int kBytes = First::kBytes > Second::kBytes ? First::kBytes : Second::kBytes;
  unsigned char *bytes;
  explicit __device__ __forceinline__ Overlay(unsigned char *bytes) : bytes(bytes) {}
};
template <class First, class Second>
__device__ __forceinline__ First first_of(const Overlay<First, Second> &both) {
  return First(both.bytes);
}
template <class First, class Second>
__device__ __forceinline__ Second second_of(const Overlay<First, Second> &both) {
  return Second(both.bytes);
}

// By the kWarps warps from thread `first_thread` on, which meet at barrier `barrier`: joins their
// sums of a selection's first `kTileHeads` rows and stores them in part `slot` of values [slots,
// kTileHeads, kValueDim] and states [slots, kTileHeads]; of a part without keys the state alone,
// whose sum is 0. After reduce_sum.
template <int kTileHeads, int kWarps, int kValueDim>
__device__ __forceinline__ void
join_sums(void *values, void *states, const JoinedSums<kWarps, kValueDim> &joined,
          const Accumulator<16, kValueDim> &output, const SoftmaxState &state, int slot,
          int first_thread, int barrier, float scale) {
  constexpr int kThreads = 32 * kWarps, kColumns = JoinedSums<kWarps, kValueDim>::kColumns;
  const int thread = thread_index() - first_thread, warp = thread / 32;
  const int c = lane_index() & 3, g = lane_index() / 4;
  sync_some(barrier, kThreads); // the last join has been read
  if (c == 0) {
    joined.state(warp, g) = make_float2(state.maximum[0] * scale, state.sum[0]);
    joined.state(warp, g + 8) = make_float2(state.maximum[1] * scale, state.sum[1]);
  }
  sync_some(barrier, kThreads);
  // A warp without keys has a sum of 0 in its first row, as in all others.
  unsigned having = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i)
    having |= joined.state(i, 0).y != 0.f ? 1u << i : 0u;
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = -kInfinity;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      const float2 other = joined.state(i, g + 8 * half);
      top = other.y == 0.f ? top : fmaxf(top, other.x);
    }
    factor[half] = state.sum[half] == 0.f ? 0.f : exp2_fast(state.maximum[half] * scale - top);
  }
  // Unrolled, since registers have no numbers that are known later.
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    if (part > 0)
      sync_some(barrier, kThreads); // the first half has been read
    if ((having >> warp & 1) != 0)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kColumns / 8; ++j) {
          const float (&value)[4] = output.value[part * (kColumns / 8) + j];
          *reinterpret_cast<float2 *>(joined.values(warp, g + 8 * half, 8 * j + 2 * c)) =
              make_float2(value[2 * half] * factor[half], value[2 * half + 1] * factor[half]);
        }
    sync_some(barrier, kThreads);
#pragma unroll 1
    for (int i = thread; i < kTileHeads * kColumns / 4; i += kThreads) {
      const int row = i / (kColumns / 4), column = 4 * (i % (kColumns / 4));
      float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
      for (int from = 0; from < kWarps; ++from)
        if ((having >> from & 1) != 0) {
          const float4 other = *reinterpret_cast<const float4 *>(joined.values(from, row, column));
          sum = make_float4(sum.x + other.x, sum.y + other.y, sum.z + other.z, sum.w + other.w);
        }
      float *to = static_cast<float *>(values) +
                  (static_cast<long long>(slot) * kTileHeads + row) * kValueDim + part * kColumns +
                  column;
      *reinterpret_cast<float4 *>(to) = sum;
    }
  }
  sync_some(barrier, kThreads); // the part is told of once its values are there
  if (thread < kTileHeads) {
    float top = -kInfinity, total = 0.f;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      const float2 other = joined.state(i, thread);
      top = other.y == 0.f ? top : fmaxf(top, other.x);
    }
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      const float2 other = joined.state(i, thread);
      total += other.y == 0.f ? 0.f : other.y * exp2_fast(other.x - top);
    }
    fence_gpu();
    tell_word(part_state(states, slot, kTileHeads, thread), told_pair(total, top));
  }
}

// The sums of no keys.
template <int kValueDim>
__device__ __forceinline__ void restart_sums(Accumulator<16, kValueDim> &output,
                                             SoftmaxState &state) {
  clear(output);
  state = SoftmaxState();
}

// Part `slot` has no keys; by the threads from 0 on.
template <int kTileHeads>
__device__ __forceinline__ void store_no_part(void *states, int slot, int thread) {
  if (thread >= 0 && thread < kTileHeads)
    tell_word(part_state(states, slot, kTileHeads, thread), told_pair(0.f, 0.f));
}

//===-- Which keys ----------------------------------------------------------------------------===//

// The ids of two selections, one after the other, as chosen by this block of threads.
template <int kTopK> struct IdLists {
  static constexpr int kEach = (kTopK + 3) / 4 * 4;
  static constexpr int kBytes = 2 * 4 * kEach;
  int *ids;
  explicit __device__ __forceinline__ IdLists(unsigned char *bytes)
      : ids(reinterpret_cast<int *>(bytes)) {}
};
template <int kTopK>
__device__ __forceinline__ int *id_list(const IdLists<kTopK> &lists, int index) {
  return lists.ids + index * lists.kEach;
}

// By kThreads threads: to = the kTopK ids at `from`.
template <int kThreads, int kTopK>
__device__ __forceinline__ void copy_ids(int *to, const int *from) {
  for (int i = thread_index(); i < kTopK; i += kThreads)
    to[i] = from[i];
}

// The first key of a selection's tile `entry`: the first kForced blocks, kInit of them at the
// front, are forced, and ids name the others behind kInit; or of all keys where nothing `chooses`.
template <int kInit, int kForced, int kTilesPerBlock, int kKeys>
__device__ __forceinline__ int step_key(const int *ids, int entry, bool chooses, int forced_from) {
  if (!chooses)
    return entry * kKeys;
  const int index = entry / kTilesPerBlock;
  const int block = index >= kForced ? ids[index - kForced + kInit]
                    : index < kInit  ? index
                                     : forced_from + index - kInit;
  return (block * kTilesPerBlock + entry % kTilesPerBlock) * kKeys;
}

//===-- Adding parts up -----------------------------------------------------------------------===//

// The slots of a selection's parts: the first one, and how many.
struct StepSlots {
  int first, count;
};

// By a warp: which blocks of threads have parts of a selection.
template <int kSelections, int kTokens>
__device__ __forceinline__ StepSlots find_slots(const StepTable<kTokens> &table, int selection,
                                                int blocks) {
  const int *before = table.before(kStepKeys) + selection / kSelections;
  const int each = before[1] - before[0];
  const int first = kSelections * before[0] + selection % kSelections * each;
  if (table.sharers() > 0)
    return {table.idle() + selection * table.sharers() + selection, each > 0 ? table.sharers() : 0};
  // A tile's is the last block of threads whose piece begins at it or before: how many do?
  int first_owner = -1, last_owner = -1;
  for (int block = lane_index(); block < kStepGrid; block += 32) {
    const int begin = table.pieces()[min(block, blocks)];
    first_owner += __popc(__ballot_sync(kFullWarp, block < blocks && begin <= first));
    last_owner += __popc(__ballot_sync(kFullWarp, block < blocks && begin <= first + each - 1));
  }
  return {first_owner + selection, each > 0 ? last_owner - first_owner + 1 : 0};
}

// A head's sum, some columns of it in each lane.
template <int kValueDim> struct PartSum {
  static constexpr int kLaneValues = (kValueDim + 31) / 32;
  float maximum = -kInfinity, weights = 0.f, value[kLaneValues] = {};
};
constexpr int kStepTogether = 8; // parts whose loads do not wait for each other

// add_parts (parts.cuh), of the parts of head `head` of a selection, each once it has been told of.
template <int kTileHeads, int kValueDim>
__device__ __forceinline__ void add_step_parts(PartSum<kValueDim> &all, const void *values,
                                               void *states, const StepSlots &slots, int head,
                                               int first, int step) {
  constexpr int kLaneValues = PartSum<kValueDim>::kLaneValues;
  float &maximum = all.maximum, &weights = all.weights, (&sum)[kLaneValues] = all.value;
#pragma unroll 1
  for (int part = first; part < slots.count; part += kStepTogether * step) {
    auto slot_of = [&](int j) { return slots.first + min(part + j * step, slots.count - 1); };
    unsigned long long told[kStepTogether];
    bool there;
    do {
      there = true;
#pragma unroll
      for (int j = 0; j < kStepTogether; ++j) {
        told[j] = ask_word(part_state(states, slot_of(j), kTileHeads, head));
        there &= told[j] != 0;
      }
      if (!there)
        back_off();
    } while (!there);
    fence_gpu(); // what was stored before they were told can be read behind it
    float2 state[kStepTogether];
    float value[kStepTogether][kLaneValues];
    float top = maximum;
#pragma unroll
    for (int j = 0; j < kStepTogether; ++j) {
      const bool is_part = part + j * step < slots.count;
      const float2 word = untold_pair(told[j]);
      state[j] = make_float2(word.y, is_part ? word.x : 0.f);
      const float *from = static_cast<const float *>(values) +
                          (static_cast<long long>(slot_of(j)) * kTileHeads + head) * kValueDim +
                          lane_index();
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i)
        value[j][i] = state[j].y == 0.f ? 0.f : from[32 * i];
      top = state[j].y == 0.f ? top : fmaxf(top, state[j].x);
    }
    const float before = weights == 0.f ? 0.f : exp2_fast(maximum - top);
    weights *= before;
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i)
      sum[i] *= before;
#pragma unroll
    for (int j = 0; j < kStepTogether; ++j) {
      const float weight = state[j].y == 0.f ? 0.f : exp2_fast(state[j].x - top);
      weights = fmaf(state[j].y, weight, weights);
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i) // a part without keys left no values
        sum[i] = fmaf(weight, value[j][i], sum[i]);
    }
    maximum = top;
  }
}

// By a warp: row `row` of head `head` of out and lse, either of which may be null.
template <int kHeads, class T, int kValueDim, class Heads>
__device__ __forceinline__ void store_sum(const Heads &out, float *lse,
                                          const PartSum<kValueDim> &sum, int total_q, int row,
                                          int head) {
  const float inverse = sum.weights == 0.f ? 0.f : 1.f / sum.weights;
  if (!is_null(out)) {
    auto *to = reinterpret_cast<unsigned short *>(
        const_cast<T *>(head_row<kHeads, kValueDim, T>(out, row, head)));
#pragma unroll
    for (int i = 0; i < PartSum<kValueDim>::kLaneValues; ++i)
      to[lane_index() + 32 * i] =
          static_cast<unsigned short>(pack<T>(sum.value[i] * inverse, 0.f) & 0xffffu);
  }
  if (lse != nullptr && lane_index() == 0)
    lse[static_cast<long long>(head) * total_q + row] =
        (sum.maximum + log2_fast(sum.weights)) * kLn2;
}

// By the kWarps warps from thread `first_thread` on, which meet at barrier `barrier` and have left
// all their parts: the block of threads' share of the rows of out [total_q, kHeads, kValueDim] and
// of lse, either of which may be null. A block of threads has a selection, or where selections are
// few some of its heads; a head is added up by one warp, or by several.
template <int kHeads, int kTileHeads, int kSelections, class T, int kWarps, int kValueDim,
          int kTokens, class Heads>
__device__ __forceinline__ void
merge_parts(const Heads &out, float *lse, const JoinedSums<kWarps, kValueDim> &joined,
            const StepTable<kTokens> &table, const void *values, void *states, int total_q,
            int block, int blocks, int first_thread, int barrier) {
  constexpr int kThreads = 32 * kWarps, kLog = 3;
  static_assert(kWarps == 1 << kLog, "warps that share heads by halves");
  const WarpValues<kWarps, kValueDim> sums(joined.bytes);
  const int selections = kSelections * total_q, warp = (thread_index() - first_thread) / 32;
  int shift = 0; // 2^shift slices of a selection
  while (2 << shift <= kTileHeads && (2 << shift) * selections <= blocks)
    ++shift;
  const int heads = (kTileHeads + (1 << shift) - 1) >> shift; // of a slice
  // Where pieces end with selections a block of threads begins with its own.
  const int first_unit = block - table.idle() + (block < table.idle() ? blocks : 0);
  sync_some(barrier, kThreads); // the last part has been read from where sums will lie
#pragma unroll 1
  for (int unit = first_unit; unit < selections << shift; unit += blocks) {
    const int selection = unit >> shift, token = selection / kSelections;
    if (table.tiles()[token].tokens == 0)
      continue;
    const StepSlots slots = find_slots<kSelections>(table, selection, blocks);
    // Warps of a head: as many as there are, but none without a part or two.
    int sharers = kWarps, log = kLog;
    while (sharers > 1 &&
           (sharers * heads > kWarps || slots.count <= kStepTogether * sharers / 2)) {
      sharers /= 2;
      --log;
    }
    const int turn = warp & (sharers - 1), slice = unit & ((1 << shift) - 1);
    const int end = min((slice + 1) * heads, kTileHeads);
#pragma unroll 1
    for (int first = slice * heads; first < end; first += kWarps >> log) {
      const int head = first + (warp >> log);
      PartSum<kValueDim> sum;
      if (head < end)
        add_step_parts<kTileHeads>(sum, values, states, slots, head, turn, sharers);
      const int row_head = selection % kSelections * kTileHeads + head;
      if (sharers == 1) {
        if (head < end)
          store_sum<kHeads, T>(out, lse, sum, total_q, token, row_head);
        continue;
      }
      if (head < end) {
#pragma unroll
        for (int i = 0; i < PartSum<kValueDim>::kLaneValues; ++i)
          sums.value[warp * kValueDim + lane_index() + 32 * i] = sum.value[i];
        if (lane_index() == 0)
          sums.state(warp) = make_float2(sum.maximum, sum.weights);
      }
      sync_some(barrier, kThreads);
      if (head < end && turn == 0)
        store_merged<kHeads, T>(out, lse, sums, warp, sharers, total_q, token, row_head);
      sync_some(barrier, kThreads);
    }
  }
}
