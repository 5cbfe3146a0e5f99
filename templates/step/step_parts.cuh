// Attention of a decode step that is one launch (decode_step): the warps of a block of threads that
// attend have a key tile each in turn, so each has sums of its own; what they have of a selection
// is joined in shared memory and told as one part, whose values are words that say by themselves
// that they are there; at the end blocks of threads add up the parts of some rows each. A part lies
// in slot block + selection: since every piece begins where the one before ends, the next part has
// a higher number of either, so no two share a slot, and those of one selection follow each other.
#pragma once
#include "winnow/parts.cuh"
#include "winnow/step_exchange.cuh"

// {maximum, sum of weights} of a part's head, as a word that blocks of threads tell each other
// (step_exchange.cuh).
__device__ __forceinline__ unsigned long long *part_state(void *states, int slot, int heads,
                                                          int head) {
  return static_cast<unsigned long long *>(states) + static_cast<long long>(slot) * heads + head;
}

// Two values of a part as a word that says by itself that each is there.
__device__ __forceinline__ unsigned long long told_values(float first, float second) {
  return static_cast<unsigned long long>(told_bits(second)) << 32 | told_bits(first);
}
__device__ __forceinline__ bool are_told(unsigned long long values) {
  return static_cast<unsigned>(values) != 0 && values >> 32 != 0;
}

// What warps that attend tell each other: maxima and sums of each, and weighted values, in an order
// without bank conflicts.
template <int kWarps, int kValueDim> struct JoinedSums {
  static constexpr int kRows = 16, kStates = 4 * kWarps * kRows * kValueDim;
  static constexpr int kBytes = kStates + 8 * kWarps * kRows;
  unsigned char *bytes;
  explicit __device__ __forceinline__ JoinedSums(unsigned char *bytes) : bytes(bytes) {}
  __device__ __forceinline__ float2 &state(int warp, int row) const {
    return reinterpret_cast<float2 *>(bytes + kStates)[warp * kRows + row];
  }
  __device__ __forceinline__ float *values(int warp, int row, int column) const {
    constexpr int kTiles = kValueDim / 8, kSwapped = kTiles & -kTiles; // stays among the columns
    const int swizzled = column ^ 8 * (row & (kSwapped - 1) & 7);
    return reinterpret_cast<float *>(bytes) + (warp * kRows + row) * kValueDim + swizzled;
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
// sums of a selection's first `kTileHeads` rows and tells them as part `slot` of values [slots,
// kTileHeads, kValueDim] and states [slots, kTileHeads]. After reduce_sum. Each warp leaves its
// sums when it has them: so the last one finds what it has to do in the instruction cache.
template <int kTileHeads, int kWarps, int kValueDim>
__device__ __forceinline__ void
join_sums(void *values, void *states, const JoinedSums<kWarps, kValueDim> &joined,
          const Accumulator<16, kValueDim> &output, const SoftmaxState &state, int slot,
          int first_thread, int barrier, float scale) {
  constexpr int kThreads = 32 * kWarps, kLanes = kThreads / 16; // of a row
  const int thread = thread_index() - first_thread, warp = thread / 32;
  const int c = lane_index() & 3, g = lane_index() / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (8 * half >= kTileHeads)
      break;
    if (c == 0)
      joined.state(warp, g + 8 * half) = make_float2(state.maximum[half] * scale, state.sum[half]);
#pragma unroll
    for (int j = 0; j < kValueDim / 8; ++j)
      *reinterpret_cast<float2 *>(joined.values(warp, g + 8 * half, 8 * j + 2 * c)) =
          make_float2(output.value[j][2 * half], output.value[j][2 * half + 1]);
  }
  sync_some(barrier, kThreads);
  const int row = thread / kLanes, lane = thread % kLanes;
  if (row < kTileHeads) {
    float2 other[kWarps];
    float top = -kInfinity, total = 0.f, factor[kWarps];
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      other[i] = joined.state(i, row);
      top = other[i].y == 0.f ? top : fmaxf(top, other[i].x);
    }
#pragma unroll
    for (int i = 0; i < kWarps; ++i) { // a warp without keys has a sum of 0
      factor[i] = other[i].y == 0.f ? 0.f : exp2_fast(other[i].x - top);
      total = fmaf(other[i].y, factor[i], total);
    }
    if (lane == 0)
      tell_word(part_state(states, slot, kTileHeads, row), told_pair(total, top));
    float *to = static_cast<float *>(values) +
                (static_cast<long long>(slot) * kTileHeads + row) * kValueDim;
#pragma unroll
    for (int i = 0; i < (kValueDim + 4 * kLanes - 1) / (4 * kLanes); ++i) {
      const int column = 4 * (lane + i * kLanes);
      if (column >= kValueDim)
        break;
      float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
      for (int from = 0; from < kWarps; ++from) {
        const float4 own = *reinterpret_cast<const float4 *>(joined.values(from, row, column));
        sum = make_float4(fmaf(own.x, factor[from], sum.x), fmaf(own.y, factor[from], sum.y),
                          fmaf(own.z, factor[from], sum.z), fmaf(own.w, factor[from], sum.w));
      }
      tell_words(reinterpret_cast<unsigned long long *>(to + column), told_values(sum.x, sum.y),
                 told_values(sum.z, sum.w));
    }
  }
  sync_some(barrier, kThreads); // what the next sums will be left over has been read
}

// The sums of no keys.
template <int kValueDim>
__device__ __forceinline__ void restart_sums(Accumulator<16, kValueDim> &output,
                                             SoftmaxState &state) {
  clear(output);
  state = SoftmaxState();
}

// Tells of part `slot` that it has no keys: the state alone, whose sum is 0; by the threads from 0
// on.
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

// Of a head's sum, four neighbouring columns in each lane.
struct PartSum {
  float maximum = -kInfinity, weights = 0.f, value[4] = {};
};
__device__ __forceinline__ void add_sum(PartSum &all, const PartSum &other) {
  if (other.weights == 0.f)
    return;
  const float top = fmaxf(all.maximum, other.maximum);
  const float before = exp2_fast(all.maximum - top), factor = exp2_fast(other.maximum - top);
  all.maximum = top;
  all.weights = all.weights * before + other.weights * factor;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    all.value[i] = all.value[i] * before + other.value[i] * factor;
}
constexpr int kStepTogether = 8; // parts whose loads do not wait for each other

// all += every `step`-th part from `first` on of head `head` of a selection, the lane's columns
// from `column` on; each once it has been told.
template <int kTileHeads, int kValueDim>
__device__ __forceinline__ void add_step_parts(PartSum &all, const void *values, void *states,
                                               const StepSlots &slots, int head, int column,
                                               int first, int step) {
#pragma unroll 1
  for (int part = first; part < slots.count; part += kStepTogether * step) {
    unsigned long long told[kStepTogether], value[kStepTogether][2];
    bool there;
    do {
      there = true;
#pragma unroll
      for (int j = 0; j < kStepTogether; ++j) {
        const int slot = slots.first + min(part + j * step, slots.count - 1);
        const float *from = static_cast<const float *>(values) +
                            (static_cast<long long>(slot) * kTileHeads + head) * kValueDim + column;
        told[j] = ask_word(part_state(states, slot, kTileHeads, head));
        ask_words(value[j][0], value[j][1], reinterpret_cast<const unsigned long long *>(from));
        // A part without keys leaves no values.
        there &= told[j] != 0 && (untold_pair(told[j]).x == 0.f ||
                                  (are_told(value[j][0]) && are_told(value[j][1])));
      }
      if (!there)
        back_off();
    } while (!there);
    float top = all.maximum, weight[kStepTogether];
#pragma unroll
    for (int j = 0; j < kStepTogether; ++j) {
      const float2 state = untold_pair(told[j]);
      weight[j] = part + j * step < slots.count ? state.x : 0.f;
      top = weight[j] == 0.f ? top : fmaxf(top, state.y);
    }
    const float before = all.weights == 0.f ? 0.f : exp2_fast(all.maximum - top);
    all.maximum = top;
    all.weights *= before;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      all.value[i] *= before;
#pragma unroll
    for (int j = 0; j < kStepTogether; ++j) {
      const float factor = weight[j] == 0.f ? 0.f : exp2_fast(untold_pair(told[j]).y - top);
      all.weights = fmaf(weight[j], factor, all.weights);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 pair = untold_pair(value[j][i / 2]);
        const float own = i % 2 == 0 ? pair.x : pair.y;
        all.value[i] = fmaf(factor, weight[j] == 0.f ? 0.f : own, all.value[i]);
      }
    }
  }
}

// The sum of all lanes that have the same columns: those `lanes` apart, in all of them.
__device__ __forceinline__ void add_lane_sums(PartSum &all, int lanes) {
#pragma unroll 1
  for (int distance = lanes; distance < 32; distance *= 2) {
    PartSum other;
    other.maximum = __shfl_xor_sync(kFullWarp, all.maximum, distance);
    other.weights = __shfl_xor_sync(kFullWarp, all.weights, distance);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      other.value[i] = __shfl_xor_sync(kFullWarp, all.value[i], distance);
    add_sum(all, other);
  }
}

// The lane's columns of row `row` of head `head` of out, and that of lse where `column` is 0;
// either may be null.
template <int kHeads, class T, int kValueDim, class Heads>
__device__ __forceinline__ void store_sum(const Heads &out, float *lse, const PartSum &sum,
                                          int total_q, int row, int head, int column) {
  const float inverse = sum.weights == 0.f ? 0.f : 1.f / sum.weights;
  if (!is_null(out)) {
    T *to = const_cast<T *>(head_row<kHeads, kValueDim, T>(out, row, head)) + column;
#pragma unroll
    for (int i = 0; i < 4; i += 2)
      *reinterpret_cast<unsigned *>(to + i) =
          pack<T>(sum.value[i] * inverse, sum.value[i + 1] * inverse);
  }
  if (lse != nullptr && column == 0)
    lse[static_cast<long long>(head) * total_q + row] =
        (sum.maximum + log2_fast(sum.weights)) * kLn2;
}

// By the kWarps warps from thread `first_thread` on, which meet at barrier `barrier` and have left
// all their parts: the block of threads' share of the rows of out [total_q, kHeads, kValueDim] and
// of lse, either of which may be null. A block of threads has a selection, or where selections are
// few some of its heads, or some columns of one; a head is added up by one warp, or by several.
template <int kHeads, int kTileHeads, int kSelections, class T, int kWarps, int kValueDim,
          int kTokens, class Heads>
__device__ __forceinline__ void
merge_parts(const Heads &out, float *lse, const JoinedSums<kWarps, kValueDim> &joined,
            const StepTable<kTokens> &table, const void *values, void *states, int total_q,
            int block, int blocks, int first_thread, int barrier) {
  constexpr int kLog = 2;
  static_assert(kWarps == 1 << kLog, "warps that share heads by halves");
  static_assert(kValueDim % 4 == 0 && kValueDim <= 128, "four columns of each lane");
  constexpr int kThreads = 32 * kWarps, kRowLanes = kValueDim <= 64 ? 16 : 32;
  const WarpValues<kWarps, 4 * 32> sums(joined.bytes);
  auto own_sum = [&](int warp) { // the lane's columns
    return reinterpret_cast<float4 *>(sums.value) + 32 * warp + lane_index();
  };
  const int selections = kSelections * total_q, warp = (thread_index() - first_thread) / 32;
  int shift = 0; // 2^shift slices of a selection's heads
  while (2 << shift <= kTileHeads && (2 << shift) * selections <= blocks)
    ++shift;
  const int heads = (kTileHeads + (1 << shift) - 1) >> shift; // of a slice
  int lanes = kRowLanes; // of a part, and 2^columns_shift slices of a row
  int columns_shift = 0;
  while (heads == 1 && lanes > 8 && (2 << (shift + columns_shift)) * selections <= blocks) {
    lanes /= 2;
    ++columns_shift;
  }
  const int together = 32 / lanes; // parts of a warp at a time
  const int units = selections << (shift + columns_shift);
  // Where pieces end with selections a block of threads begins with its own.
  const int first_unit = block - table.idle() + (block < table.idle() ? blocks : 0);
#pragma unroll 1
  for (int unit = first_unit; unit < units; unit += blocks) {
    const int slice = unit >> columns_shift, selection = slice >> shift,
              token = selection / kSelections;
    if (table.tiles()[token].tokens == 0)
      continue;
    const StepSlots slots = find_slots<kSelections>(table, selection, blocks);
    // Warps of a head: as many as there are, but none without a part or two.
    int log = kLog;
    while (log > 0 &&
           (heads << log > kWarps || slots.count <= (kStepTogether * together << log) / 2))
      --log;
    const int sharers = 1 << log, turn = warp & (sharers - 1), first_warp = warp - turn;
    const int first_head = (slice & ((1 << shift) - 1)) * heads;
    const int end = min(first_head + heads, kTileHeads);
    const int part_column = 4 * (lane_index() & (lanes - 1));
    const int column = (unit & ((1 << columns_shift) - 1)) * 4 * lanes + part_column;
    const bool holds = column < kValueDim;
#pragma unroll 1
    for (int first = first_head; first < end; first += kWarps >> log) {
      const int head = first + (warp >> log);
      PartSum sum;
      if (head < end && holds)
        add_step_parts<kTileHeads, kValueDim>(sum, values, states, slots, head, column,
                                              turn * together + lane_index() / lanes,
                                              together << log);
      __syncwarp();
      add_lane_sums(sum, lanes);
      if (sharers > 1) {
        *own_sum(warp) = make_float4(sum.value[0], sum.value[1], sum.value[2], sum.value[3]);
        if (lane_index() == 0)
          sums.state(warp) = make_float2(sum.maximum, sum.weights);
        sync_some(barrier, kThreads);
#pragma unroll 1
        for (int i = 1; i < sharers && turn == 0; ++i) {
          const float4 value = *own_sum(first_warp + i);
          const float2 state = sums.state(first_warp + i);
          add_sum(sum, {state.x, state.y, {value.x, value.y, value.z, value.w}});
        }
        sync_some(barrier, kThreads);
      }
      if (head < end && turn == 0 && holds && lane_index() < lanes)
        store_sum<kHeads, T, kValueDim>(out, lse, sum, total_q, token,
                                        selection % kSelections * kTileHeads + head, column);
    }
  }
}
