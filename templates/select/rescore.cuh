// Selection by the logarithms of scores, for the tokens whose scores leave the range of fp32.
// Serves rescore, and top_k, which finds those tokens. A softmax score is a power of 2, and fp32
// holds powers from -126 to 127: where the last block that is selected by score lies outside
// kOrderedOctaves, overflow and underflow may have decided its place. top_k then writes kUnordered
// in the place of the token's first id, and rescore selects again from octaves: base-2 logarithms
// of scores, in fp32. Such tokens are rare (all heads of a group must be e^-41 away from their
// normalisers), so plain code for few registers will do. One block of threads works on one token at
// a time.
#pragma once
#include "winnow/scoring.cuh"
#include "winnow/top_k.cuh"

#include "winnow/order_range.cuh" // builds on top_k.cuh

// What stands in the place of a token's first id until rescore has selected for it.
constexpr int kUnordered = -2;
// The score 0 as an octave: a summary that is hidden, or without a normaliser. A block without any
// summary lies below it, at -inf.
constexpr float kZeroOctave = -3.4028235e38f;

//===-- In top_k: which rows are not ordered --------------------------------------------------===//

// ids[0] = kUnordered, by one warp, which may have written ids[0] before. All lanes store the same.
// (One lane alone would be a branch in a branch, which costs top_k's fp32 form its registers.)
__device__ __forceinline__ void mark_unordered(int *ids) {
  __syncwarp();
  ids[0] = kUnordered;
}

// The same of ids in shared memory, by one lane.
__device__ __forceinline__ void mark_list_unordered(int *ids) {
  __syncwarp();
  if (lane_index() == 0)
    ids[0] = kUnordered;
}

// Whether the row was left so.
__device__ __forceinline__ bool is_unordered(const int *ids) { return ids[0] == kUnordered; }

//===-- In rescore: finding the rows ----------------------------------------------------------===//

// One bit for each of kRows consecutive rows of ids: those that are not ordered.
template <int kRows> struct RowMarks {
  static constexpr int kBytes = kRows / 8;
  unsigned *words;
  explicit __device__ __forceinline__ RowMarks(unsigned char *bytes)
      : words(reinterpret_cast<unsigned *>(bytes)) {}
};

// Looks at rows [first, first + kRows) of ids [rows, kTopK), one per thread.
template <int kTopK, int kRows>
__device__ __forceinline__ void find_unordered(const RowMarks<kRows> &marks, const int *ids,
                                               int first, int rows) {
  const int row = first + thread_index();
  const bool found = row < rows && ids[static_cast<long long>(row) * kTopK] == kUnordered;
  const unsigned word = __ballot_sync(kFullWarp, found);
  if (lane_index() == 0)
    marks.words[thread_index() / 32] = word;
}

template <int kRows> __device__ __forceinline__ int count_unordered(const RowMarks<kRows> &marks) {
  int count = 0;
  for (int word = 0; word < kRows / 32; ++word)
    count += __popc(marks.words[word]);
  return count;
}

// The place of mark `index` among the rows.
template <int kRows>
__device__ __forceinline__ int nth_unordered(const RowMarks<kRows> &marks, int index) {
  int place = 0;
  for (int word = 0; word < kRows / 32; ++word) {
    unsigned bits = marks.words[word];
    for (; bits != 0; bits &= bits - 1)
      if (index-- == 0)
        place = 32 * word + __ffs(bits) - 1;
  }
  return place;
}

//===-- Logits --------------------------------------------------------------------------------===//

// The queries of one token's group of heads in shared memory, as fp32.
template <int kGroup, int kDim> struct HeadQueries {
  static constexpr int kBytes = kGroup * kDim * 4;
  float *values;
  explicit __device__ __forceinline__ HeadQueries(unsigned char *bytes)
      : values(reinterpret_cast<float *>(bytes)) {}
};

// queries = heads [first_head, first_head + kGroup) of token `row` of q [total_q, kHeads, kDim].
template <class T, int kThreads, int kHeads, int kGroup, int kDim, class Heads>
__device__ __forceinline__ void load_head_queries(const HeadQueries<kGroup, kDim> &queries,
                                                  const Heads &q, int row, int first_head) {
  for (int i = thread_index(); i < kGroup * kDim / 2; i += kThreads) {
    const int head = i / (kDim / 2), word = i % (kDim / 2);
    const T *from = head_row<kHeads, kDim, T>(q, row, first_head + head);
    const float2 pair = unpack<T>(reinterpret_cast<const unsigned *>(from)[word]);
    queries.values[2 * i] = pair.x;
    queries.values[2 * i + 1] = pair.y;
  }
}

// logits = the products of heads [first, first + kHeads) with summary `row`.
template <int kHeads, int kGroup, int kDim, class Summaries>
__device__ __forceinline__ void row_logits(float (&logits)[kHeads],
                                           const HeadQueries<kGroup, kDim> &queries, int first,
                                           const Summaries &summaries, int row) {
#pragma unroll
  for (int head = 0; head < kHeads; ++head)
    logits[head] = 0.f;
#pragma unroll 1
  for (int chunk = 0; chunk < kDim / 8; ++chunk) {
    ChannelSums summary;
    add_row(summary, summaries, row, chunk);
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      const float *query = queries.values + (first + head) * kDim + 8 * chunk;
#pragma unroll
      for (int i = 0; i < 8; ++i)
        logits[head] = fmaf(query[i], summary.value[i], logits[head]);
    }
  }
}

// A sum of powers of 2 whose exponents have any size: 2^maximum times `sum`, which is at least the
// largest weight that was added.
struct PowerSum {
  float maximum = -kInfinity;
  float sum = 0.f;
};
__device__ __forceinline__ void add_power(PowerSum &power, float octave, float weight) {
  if (octave == -kInfinity)
    return;
  if (octave > power.maximum) {
    power.sum = fmaf(power.sum, exp2_fast(power.maximum - octave), weight);
    power.maximum = octave;
  } else {
    power.sum = fmaf(weight, exp2_fast(octave - power.maximum), power.sum);
  }
}
// -inf for a sum of nothing.
__device__ __forceinline__ float octave_of(const PowerSum &power) {
  return power.maximum + log2_fast(power.sum);
}

//===-- Normalisers ---------------------------------------------------------------------------===//

// One normaliser per head of the group: log2 of the sum over summaries of 2^(scale logit), +inf
// where none is visible, so that every score becomes 0.
template <int kGroup> struct HeadNormalizers {
  static constexpr int kBytes = (kGroup + 3) / 4 * 16; // shared memory is planned by 16 bytes
  float *values;
  explicit __device__ __forceinline__ HeadNormalizers(unsigned char *bytes)
      : values(reinterpret_cast<float *>(bytes)) {}
};

// Over summaries [0, visible); each warp makes those of some heads.
template <int kThreads, int kGroup, int kDim, class Summaries>
__device__ __forceinline__ void make_head_normalizers(const HeadNormalizers<kGroup> &normalizers,
                                                      const HeadQueries<kGroup, kDim> &queries,
                                                      const Summaries &summaries, int visible,
                                                      float scale) {
  for (int head = warp_index(); head < kGroup; head += kThreads / 32) {
    PowerSum power;
    for (int row = lane_index(); row < visible; row += 32) {
      float logit[1];
      row_logits(logit, queries, head, summaries, row);
      add_power(power, logit[0] * scale, 1.f);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      const float maximum = __shfl_xor_sync(kFullWarp, power.maximum, distance);
      const float sum = __shfl_xor_sync(kFullWarp, power.sum, distance);
      add_power(power, maximum, sum);
    }
    if (lane_index() == 0)
      normalizers.values[head] = power.sum > 0.f ? octave_of(power) : kInfinity;
  }
}

//===-- Octaves -------------------------------------------------------------------------------===//

// A sum of weighted scores, or their maximum, as octaves.
template <class Reduce> struct OctaveSum {
  PowerSum power;
  __device__ __forceinline__ void add(float octave, float weight) {
    if constexpr (is_same<Reduce, Max>)
      power.maximum = fmaxf(power.maximum, octave);
    else
      add_power(power, octave, weight);
  }
  __device__ __forceinline__ float octave() const {
    return is_same<Reduce, Max> ? power.maximum : octave_of(power);
  }
};

// octaves[b] = the octave of block b's score, for b in [first_block, end): heads combined,
// summaries pooled, as score does it. Of `rows` summaries the token sees the first `visible`.
template <class Combine, class Pool, int kThreads, int kRowsPerBlock, int kPad, int kGroup,
          int kDim, class Summaries>
__device__ __forceinline__ void
store_octaves(float *octaves, const HeadNormalizers<kGroup> &normalizers,
              const HeadQueries<kGroup, kDim> &queries, const Summaries &summaries, int first_block,
              int end, int rows, int visible, float scale) {
  for (int block = first_block + thread_index(); block < end; block += kThreads) {
    OctaveSum<Pool> pooled;
#pragma unroll 1
    for (int i = -kPad; i < kRowsPerBlock; ++i) {
      const int row = block * kRowsPerBlock + i;
      if (row < 0 || row >= rows)
        continue;
      float octave = kZeroOctave;
      if (row < visible) {
        float logits[kGroup];
        row_logits(logits, queries, 0, summaries, row);
        OctaveSum<Combine> combined;
#pragma unroll
        for (int head = 0; head < kGroup; ++head)
          combined.add(fmaf(logits[head], scale, -normalizers.values[head]), 1.f);
        octave = fmaxf(combined.octave(), kZeroOctave);
      }
      pooled.add(octave, is_same<Pool, Overlap> ? shared_strides<kRowsPerBlock, kPad>(i) : 1.f);
    }
    octaves[block] = pooled.octave();
  }
}

// How many of the octaves of blocks [first_block, end) that fall to the warp reach the threshold, a
// rank of order_rank; known to every lane.
template <int kThreads>
__device__ __forceinline__ int count_octaves(const float *octaves, int first_block, int end,
                                             unsigned threshold) {
  int count = 0;
  for (int block = first_block + thread_index(); block < end; block += kThreads)
    count += order_rank(octaves[block]) >= threshold;
  return warp_sum(count);
}

// ids = the blocks of [first_block, end) above the threshold and the first `ties` of those at it,
// ascending, from ids[at] on; by one warp.
__device__ __forceinline__ void store_octave_ids(int *ids, const float *octaves, int at,
                                                 int first_block, int end, unsigned threshold,
                                                 int ties) {
  const unsigned before = (1u << lane_index()) - 1;
  for (int first = first_block; first < end; first += 32) {
    const int block = first + lane_index();
    const unsigned rank = block < end ? order_rank(octaves[block]) : 0u;
    const unsigned above = __ballot_sync(kFullWarp, rank > threshold);
    const unsigned equal = __ballot_sync(kFullWarp, rank == threshold);
    const int my_equal = __popc(equal & before);
    if (rank > threshold || (rank == threshold && my_equal < ties))
      ids[at + __popc(above & before) + min(my_equal, ties)] = block;
    const int taken = min(__popc(equal), ties);
    at += __popc(above) + taken;
    ties -= taken;
  }
}
