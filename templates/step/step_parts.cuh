// Attention of a decode step that is one launch (decode_step): the warps of a block of threads that
// attend have a key tile each in turn, so each has sums of its own; what they have of a selection
// is joined in shared memory and left as one part; at the end blocks of threads add up the parts of
// some rows each, once these are there. Parts lie in slots: of the early key tiles slot block +
// selection, of the chosen ones as many slots behind as there are blocks of threads and selections.
// Since every piece begins where the one before ends, the next part of a kind has a higher number
// of either, so no two share a slot, and those of one selection follow each other.
#pragma once
#include "winnow/parts.cuh"
#include "winnow/step_exchange.cuh"

// {maximum, sum of weights} of a part's head, as a word that blocks of threads tell each other
// (step_exchange.cuh); its values can be read once it is there.
__device__ __forceinline__ unsigned long long *part_state(void *states, int slot, int heads,
                                                          int head) {
  return static_cast<unsigned long long *>(states) + static_cast<long long>(slot) * heads + head;
}

// What warps that attend tell each other: maxima and sums of each, and weighted values of half of
// them, rows of kValueDim in an order without bank conflicts.
template <int kWarps, int kValueDim> struct JoinedSums {
  static constexpr int kRows = 16;
  static constexpr int kStates = 4 * (kWarps / 2) * kRows * kValueDim;
  static constexpr int kBytes = kStates + 8 * kWarps * kRows;
  unsigned char *bytes;
  explicit __device__ __forceinline__ JoinedSums(unsigned char *bytes) : bytes(bytes) {}
  __device__ __forceinline__ float2 &state(int warp, int row) const {
    return reinterpret_cast<float2 *>(bytes + kStates)[warp * kRows + row];
  }
  __device__ __forceinline__ float *values(int slot, int row, int column) const {
    const int swizzled = column ^ 8 * (row & (kValueDim / 8 - 1) & 7);
    return reinterpret_cast<float *>(bytes) + (slot * kRows + row) * kValueDim + swizzled;
  }
};

// Of a selection's part: the slot in which it lies. `early_slots`: slots of all early parts.
__device__ __forceinline__ int part_slot(const StepItem &item, int block, bool is_chosen,
                                         int early_slots) {
  return block + item.selection + (is_chosen ? early_slots : 0);
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
  constexpr int kThreads = 32 * kWarps, kSlots = kWarps / 2;
  const int thread = thread_index() - first_thread, warp = thread / 32;
  const int c = lane_index() & 3, g = lane_index() / 4;
  sync_some(barrier, kThreads); // the last join has been read
  if (c == 0) {
    joined.state(warp, g) = make_float2(state.maximum[0] * scale, state.sum[0]);
    joined.state(warp, g + 8) = make_float2(state.maximum[1] * scale, state.sum[1]);
  }
  sync_some(barrier, kThreads);
  // A warp without keys has a sum of 0 in its first row, as in all others: the others' values go to
  // the slots from 0 on, two of them to one where they are many.
  unsigned having = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i)
    having |= joined.state(i, 0).y != 0.f ? 1u << i : 0u;
  const int warps = __popc(having), order = __popc(having & ((1u << warp) - 1));
  const bool has = (having >> warp & 1) != 0;
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
#pragma unroll 1
  for (int pass = 0; pass * kSlots < warps; ++pass) {
    if (has && order / kSlots == pass)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kValueDim / 8; ++j) {
          auto *place = reinterpret_cast<float2 *>(
              joined.values(order % kSlots, g + 8 * half, 8 * j + 2 * c));
          const float2 before = pass == 0 ? make_float2(0.f, 0.f) : *place;
          *place = make_float2(fmaf(output.value[j][2 * half], factor[half], before.x),
                               fmaf(output.value[j][2 * half + 1], factor[half], before.y));
        }
    sync_some(barrier, kThreads);
  }
#pragma unroll 1
  for (int i = thread; i < kTileHeads * kValueDim / 4; i += kThreads) {
    const int row = i / (kValueDim / 4), column = 4 * (i % (kValueDim / 4));
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
    for (int from = 0; from < kSlots; ++from)
      if (from < warps) {
        const float4 other = *reinterpret_cast<const float4 *>(joined.values(from, row, column));
        sum = make_float4(sum.x + other.x, sum.y + other.y, sum.z + other.z, sum.w + other.w);
      }
    float *to = static_cast<float *>(values) +
                (static_cast<long long>(slot) * kTileHeads + row) * kValueDim + column;
    *reinterpret_cast<float4 *>(to) = sum;
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

// The first key of tile `entry`: where it `is_chosen`, of the blocks that ids name behind kInit
// forced ones; else of the forced blocks, or of all keys where nothing `chooses`.
template <int kInit, int kTilesPerBlock, int kKeys>
__device__ __forceinline__ int step_key(const int *ids, int entry, bool is_chosen, bool chooses,
                                        int forced_from) {
  if (!is_chosen && !chooses)
    return entry * kKeys;
  const int index = entry / kTilesPerBlock;
  const int block = is_chosen       ? ids[kInit + index]
                    : index < kInit ? index
                                    : forced_from + index - kInit;
  return (block * kTilesPerBlock + entry % kTilesPerBlock) * kKeys;
}

//===-- Adding parts up -----------------------------------------------------------------------===//

// The slots of a selection's parts: the first one and how many, of the early ones and of the chosen
// ones.
struct StepSlots {
  int first[2], count[2];
};

// By a warp: which blocks of threads have parts of a selection. `early_slots`: slots of all early
// parts.
template <int kSelections, int kTokens>
__device__ __forceinline__ StepSlots find_slots(const StepTable<kTokens> &table, int selection,
                                                int blocks, int chunk_cost, int early_slots) {
  StepSlots slots;
#pragma unroll
  for (int kind = 0; kind < 2; ++kind) {
    const int *before = table.before(kStepEarly + kind) + selection / kSelections;
    const int each = before[1] - before[0];
    const int first = kSelections * before[0] + selection % kSelections * each;
    const StepPieces pieces = kind == 0 ? early_pieces<kSelections>(table, blocks)
                                        : chosen_pieces<kSelections>(table, blocks, chunk_cost);
    // An item's is the last block of threads whose piece begins at it or before: how many do?
    int owner[2] = {-1, -1};
    for (int block = 0; block < blocks; block += 32) {
      const int begin = pieces.begin(block + lane_index());
      const bool exists = block + lane_index() < blocks;
      owner[0] += __popc(__ballot_sync(kFullWarp, exists && begin <= first));
      owner[1] += __popc(__ballot_sync(kFullWarp, exists && begin <= first + each - 1));
    }
    slots.first[kind] = kind * early_slots + owner[0] + selection;
    slots.count[kind] = each > 0 ? owner[1] - owner[0] + 1 : 0;
  }
  return slots;
}

// add_parts (parts.cuh), of the parts of head `head` of a selection, each once it has been told of.
template <int kTileHeads, int kWarps, int kValueDim>
__device__ __forceinline__ void
add_step_parts(const WarpValues<kWarps, kValueDim> &sums, int place, const void *values,
               void *states, const StepSlots &slots, int head, int first, int step) {
  constexpr int kLaneValues = (kValueDim + 31) / 32;
  const int count = slots.count[0] + slots.count[1];
  float maximum = -kInfinity, weights = 0.f, sum[kLaneValues] = {};
  constexpr int kTogether = 8; // parts whose loads do not wait for each other
#pragma unroll 1
  for (int part = first; part < count; part += kTogether * step) {
    auto slot_of = [&](int j) {
      const int index = min(part + j * step, count - 1);
      return index < slots.count[0] ? slots.first[0] + index
                                    : slots.first[1] + index - slots.count[0];
    };
    unsigned long long told[kTogether];
    bool there;
    do {
      there = true;
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        told[j] = ask_word(part_state(states, slot_of(j), kTileHeads, head));
        there &= told[j] != 0;
      }
      if (!there)
        await_others();
    } while (!there);
    fence_gpu(); // what was stored before they were told can be read behind it
    float2 state[kTogether];
    float value[kTogether][kLaneValues];
    float top = maximum;
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const bool is_part = part + j * step < count;
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
    for (int j = 0; j < kTogether; ++j) {
      const float weight = state[j].y == 0.f ? 0.f : exp2_fast(state[j].x - top);
      weights = fmaf(state[j].y, weight, weights);
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i) // a part without keys left no values
        sum[i] = fmaf(weight, value[j][i], sum[i]);
    }
    maximum = top;
  }
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i)
    sums.value[place * kValueDim + lane_index() + 32 * i] = sum[i];
  if (lane_index() == 0)
    sums.state(place) = make_float2(maximum, weights);
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
            int chunk_cost, int block, int blocks, int first_thread, int barrier) {
  constexpr int kThreads = 32 * kWarps;
  const WarpValues<kWarps, kValueDim> sums(joined.bytes);
  const int selections = kSelections * total_q, warp = (thread_index() - first_thread) / 32;
  int slices = 1; // of a selection
  while (2 * slices <= kTileHeads && 2 * slices * selections <= blocks)
    slices *= 2;
  const int heads = (kTileHeads + slices - 1) / slices; // of a slice
  int sharers = kWarps;                                 // warps of a head
  while (sharers > 1 && sharers * heads > kWarps)
    sharers /= 2;
  const int turn = warp % sharers;
  sync_some(barrier, kThreads); // the last part has been read from where sums will lie
#pragma unroll 1
  for (int unit = block; unit < selections * slices; unit += blocks) {
    const int selection = unit / slices, token = selection / kSelections;
    if (table.tiles()[token].tokens == 0)
      continue;
    const StepSlots slots =
        find_slots<kSelections>(table, selection, blocks, chunk_cost, blocks + selections);
    const int end = min((unit % slices + 1) * heads, kTileHeads);
#pragma unroll 1
    for (int first = unit % slices * heads; first < end; first += kWarps / sharers) {
      const int head = first + warp / sharers;
      if (head < end)
        add_step_parts<kTileHeads>(sums, warp, values, states, slots, head, turn, sharers);
      sync_some(barrier, kThreads);
      if (head < end && turn == 0)
        store_merged<kHeads, T>(out, lse, sums, warp, sharers, total_q, token,
                                selection % kSelections * kTileHeads + head);
      sync_some(barrier, kThreads);
    }
  }
}
