// Which tokens does a block of threads work on? Ragged batches without a plan made by the host.
// Serves the first lines of every kernel. Sequence s owns the tile slots from cu[s] / kTokens + s
// on, so a slot finds its sequence by a binary search over the batch; grid.x = (tokens) / kTokens +
// batch covers every slot, and the few slots that lie behind their sequence's last tile have
// `tokens` == 0: the kernel returns at once.
#pragma once

// Consecutive tokens of one sequence.
struct TokenTile {
  int sequence; // index in the batch
  int tokens;   // tokens of this tile; 0: nothing to do
  int first;    // first token, counted in its query segment
  int row;      // first token's row in q, out and lse: cu_q[sequence] + first
  int position; // first token's absolute position in the sequence: history + first
  int q_length; // tokens of the query segment
  int k_row;    // the sequence's first row in k and v: cu_k[sequence]
  int k_length; // keys of the sequence, history included
};

// How many keys each sequence has, and where its rows begin, where the host gives lengths
// (Params.h): sequence s has the rows from s max_k on of whatever the kernels make of its keys.
struct KeyLengths {
  const int *cu_k, *seq_k;
  int max_k;
};
__device__ __forceinline__ int first_key_row(const int *cu_k, int sequence) {
  return cu_k[sequence];
}
__device__ __forceinline__ int key_count(const int *cu_k, int sequence) {
  return cu_k[sequence + 1] - cu_k[sequence];
}
__device__ __forceinline__ int first_key_row(const KeyLengths &lengths, int sequence) {
  return sequence * lengths.max_k;
}
__device__ __forceinline__ int key_count(const KeyLengths &lengths, int sequence) {
  return min(lengths.max_k, lengths.seq_k != nullptr ? lengths.seq_k[sequence]
                                                     : key_count(lengths.cu_k, sequence));
}

// The tile in slot `slot`, when the segments that cu_q describes are cut to rows [begin, end).
template <int kTokens, class Lengths>
__device__ __forceinline__ TokenTile find_token_tile(const int *cu_q, const Lengths &lengths,
                                                     int batch, int begin, int end, int slot) {
  int low = 0, high = batch; // the slot belongs to a sequence in [low, high)
  while (low + 1 < high) {
    const int middle = (low + high) / 2;
    const int start = min(max(cu_q[middle], begin), end) - begin;
    if (start / kTokens + middle <= slot)
      low = middle;
    else
      high = middle;
  }
  const int segment = cu_q[low], segment_end = cu_q[low + 1];
  const int cut_begin = min(max(segment, begin), end), cut_end = min(max(segment_end, begin), end);
  const int row = cut_begin + (slot - (cut_begin - begin) / kTokens - low) * kTokens;
  TokenTile tile;
  tile.sequence = low;
  tile.tokens = max(0, min(kTokens, cut_end - row));
  tile.first = row - segment;
  tile.row = row;
  tile.q_length = segment_end - segment;
  tile.k_row = first_key_row(lengths, low);
  tile.k_length = key_count(lengths, low);
  tile.position = tile.k_length - tile.q_length + tile.first;
  return tile;
}

// The tile of sequence `sequence` whose first token is `first` of its segment.
template <int kTokens, class Lengths>
__device__ __forceinline__ TokenTile find_segment_tile(const int *cu_q, const Lengths &lengths,
                                                       int sequence, int first) {
  const int segment = cu_q[sequence];
  TokenTile tile;
  tile.sequence = sequence;
  tile.q_length = cu_q[sequence + 1] - segment;
  tile.tokens = max(0, min(kTokens, tile.q_length - first));
  tile.first = first;
  tile.row = segment + first;
  tile.k_row = first_key_row(lengths, sequence);
  tile.k_length = key_count(lengths, sequence);
  tile.position = tile.k_length - tile.q_length + first;
  return tile;
}

// The tile of the one token in row `row` of q.
template <class Lengths>
__device__ __forceinline__ TokenTile find_token(const int *cu_q, const Lengths &lengths, int batch,
                                                int row) {
  int low = 0, high = batch; // the token's sequence lies in [low, high); empty ones hold no token
  while (low + 1 < high) {
    const int middle = (low + high) / 2;
    if (cu_q[middle] <= row)
      low = middle;
    else
      high = middle;
  }
  return find_token_tile<1>(cu_q, lengths, batch, row, row + 1, low);
}

// The keys [first, first + kTokens) of a sequence, found by the slot's number: every sequence has
// slots for max_k keys. Position and query length count as if all of its keys were queries.
template <int kTokens>
__device__ __forceinline__ TokenTile find_key_tile(const KeyLengths &lengths, int batch, int slot) {
  const int slots = (lengths.max_k + kTokens - 1) / kTokens;
  const int sequence = min(slot / max(slots, 1), batch - 1);
  TokenTile tile;
  tile.sequence = sequence;
  tile.k_length = tile.q_length = key_count(lengths, sequence);
  tile.first = tile.position = (slot - sequence * slots) * kTokens;
  tile.k_row = first_key_row(lengths, sequence);
  tile.row = tile.k_row + tile.first;
  tile.tokens = max(0, min(kTokens, tile.k_length - tile.first));
  return tile;
}

// Position of the tile's last token.
__device__ __forceinline__ int last_position(const TokenTile &tile) {
  return tile.position + tile.tokens - 1;
}

// A TokenTile in shared memory (32 bytes), where a kernel short of registers keeps it while its
// inner loop runs: park by one thread, a sync_threads, then parked wherever it is needed again.
struct TileSlot {
  static constexpr int kBytes = sizeof(TokenTile);
  TokenTile *tile;
  explicit __device__ __forceinline__ TileSlot(unsigned char *bytes)
      : tile(reinterpret_cast<TokenTile *>(bytes)) {}
};
__device__ __forceinline__ void park(const TileSlot &slot, const TokenTile &tile) {
  *slot.tile = tile;
}
__device__ __forceinline__ TokenTile parked(const TileSlot &slot) { return *slot.tile; }
