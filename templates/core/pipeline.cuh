// A ring of shared tiles between producer and consumer warps: the primitives, not the protocol.
// Serves kernels whose pipelining pass split them into roles. Producers: wait_empty, load,
// arrive_full, advance. Consumers: wait_full, read, arrive_empty, advance. Every consumer warp
// walks every entry, wanted or not: a warp that ran ahead a full turn of the ring would mistake the
// parity of a later phase for its own.
#pragma once

// kStages tiles, one behind the other.
template <int kStages, class Tile> struct Ring {
  static constexpr int kBytes = kStages * Tile::kBytes;
  unsigned base;
  explicit __device__ __forceinline__ Ring(const unsigned char *bytes)
      : base(shared_address(bytes)) {}
};

// Two mbarriers per stage: full (data has arrived) and empty (all consumers are done). 16 bytes per
// stage.
template <int kStages> struct RingBarriers {
  static constexpr int kBytes = 16 * kStages;
  unsigned base;
  explicit __device__ __forceinline__ RingBarriers(const unsigned char *bytes)
      : base(shared_address(bytes)) {}
  __device__ __forceinline__ unsigned full(int stage) const { return base + stage * 16; }
  __device__ __forceinline__ unsigned empty(int stage) const { return base + stage * 16 + 8; }
};

// Where a thread is in the ring: the stage, and the parity of its turn.
template <int kStages> struct Cursor {
  int stage = 0;
  int phase = 0;
};

// By one thread, before a sync_threads: a stage is full after `producers` threads have arrived and
// empty after all lanes of `consumers` warps have.
template <int kStages>
__device__ __forceinline__ void init_ring(const RingBarriers<kStages> &barriers, int producers,
                                          int consumers) {
  for (int stage = 0; stage < kStages; ++stage) {
    init_barrier(barriers.full(stage), producers);
    init_barrier(barriers.empty(stage), 32 * consumers);
  }
}

// The cursor's tile of the ring.
template <int kStages, class Tile>
__device__ __forceinline__ Tile stage(const Ring<kStages, Tile> &ring,
                                      const Cursor<kStages> &cursor) {
  return Tile{ring.base + cursor.stage * Tile::kBytes};
}

template <int kStages>
__device__ __forceinline__ void wait_full(const RingBarriers<kStages> &barriers,
                                          const Cursor<kStages> &cursor) {
  wait(barriers.full(cursor.stage), cursor.phase);
}

// Whether wait_full would pass at once.
template <int kStages>
__device__ __forceinline__ bool is_full(const RingBarriers<kStages> &barriers,
                                        const Cursor<kStages> &cursor) {
  return is_complete(barriers.full(cursor.stage), cursor.phase);
}

// Passes at once in the first turn, when nothing has been consumed yet.
template <int kStages>
__device__ __forceinline__ void wait_empty(const RingBarriers<kStages> &barriers,
                                           const Cursor<kStages> &cursor) {
  wait(barriers.empty(cursor.stage), cursor.phase ^ 1);
}

// Until every stage that has been filled is empty again, by a producer that fills no more; the
// cursor is behind the last one.
template <int kStages>
__device__ __forceinline__ void wait_all_empty(const RingBarriers<kStages> &barriers,
                                               const Cursor<kStages> &cursor) {
#pragma unroll
  for (int i = 0; i < kStages; ++i) // stages from the cursor's on were filled a turn before
    wait(barriers.empty(i), cursor.phase ^ (i < cursor.stage ? 0 : 1));
}

// Every producer thread arrives, once the copies that it started have landed.
template <int kStages>
__device__ __forceinline__ void arrive_full(const RingBarriers<kStages> &barriers,
                                            const Cursor<kStages> &cursor) {
  arrive_after_copies(barriers.full(cursor.stage));
}

// Every lane of every consumer warp arrives, after its own reads of the stage. (One lane for all
// after a __syncwarp would do by the memory model, but racecheck does not follow that.)
template <int kStages>
__device__ __forceinline__ void arrive_empty(const RingBarriers<kStages> &barriers,
                                             const Cursor<kStages> &cursor) {
  arrive(barriers.empty(cursor.stage));
}

template <int kStages> __device__ __forceinline__ void advance(Cursor<kStages> &cursor) {
  cursor.stage = cursor.stage + 1 == kStages ? 0 : cursor.stage + 1;
  cursor.phase ^= cursor.stage == 0;
}

// The same by `count` stages.
template <int kStages>
__device__ __forceinline__ void advance_by(Cursor<kStages> &cursor, int count) {
  const unsigned stage = cursor.stage + count;
  cursor.phase ^= stage / kStages & 1;
  cursor.stage = stage % kStages;
}

//===-- Where bulk copies fill the stages and one lane speaks for its warp
//-----------------------===//

// By one thread: a stage is full after `fills` arrivals (and the bytes they announced), empty after
// `releases`.
template <int kStages>
__device__ __forceinline__ void init_barriers(const RingBarriers<kStages> &barriers, int fills,
                                              int releases) {
  for (int stage = 0; stage < kStages; ++stage) {
    init_barrier(barriers.full(stage), fills);
    init_barrier(barriers.empty(stage), releases);
  }
}

// The address of the cursor's full barrier, which bulk copies count their bytes on.
template <int kStages>
__device__ __forceinline__ unsigned full_barrier(const RingBarriers<kStages> &barriers,
                                                 const Cursor<kStages> &cursor) {
  return barriers.full(cursor.stage);
}

// Every lane arrives, after its own stores to the stage: where racecheck is to follow.
template <int kStages>
__device__ __forceinline__ void report_full(const RingBarriers<kStages> &barriers,
                                            const Cursor<kStages> &cursor) {
  arrive(barriers.full(cursor.stage));
}

// One arrival for the warp, after all its lanes' earlier accesses.
template <int kStages>
__device__ __forceinline__ void publish(const RingBarriers<kStages> &barriers,
                                        const Cursor<kStages> &cursor) {
  __syncwarp();
  if (lane_index() == 0)
    arrive(barriers.full(cursor.stage));
}
template <int kStages>
__device__ __forceinline__ void release(const RingBarriers<kStages> &barriers,
                                        const Cursor<kStages> &cursor) {
  __syncwarp();
  if (lane_index() == 0)
    arrive(barriers.empty(cursor.stage));
}

// Puts the cursor on a stage of the same turn.
template <int kStages> __device__ __forceinline__ void move_to(Cursor<kStages> &cursor, int stage) {
  cursor.stage = stage;
}
// The same stage, one turn later.
template <int kStages> __device__ __forceinline__ void next_turn(Cursor<kStages> &cursor) {
  cursor.phase ^= 1;
}
// cursor = other
template <int kStages>
__device__ __forceinline__ void follow(Cursor<kStages> &cursor, const Cursor<kStages> &other) {
  cursor = other;
}
