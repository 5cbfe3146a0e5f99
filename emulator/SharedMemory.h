// The record of a block's shared memory: per byte, who wrote it last and who has read it since, as
// moments of lanes' clocks; whether a copy is under way into it or a product reads it. 16 aligned
// bytes, or a word, share one record as long as they have been accessed as a whole since they were
// last written. Lanes of the other blocks of its cluster may access it too; nothing but
// sync_cluster orders the accesses of two blocks, so the record need not know what one block's
// lanes know of another's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace winnow::emulator {

/// As templates/arch/emulated.cuh declares it.
constexpr ptrdiff_t kSharedArray = 256 * 1024;

/// A moment of one lane.
struct Epoch {
  int lane = -1;
  uint32_t time = 0;
  int block = 0;      ///< of the cluster
  uint32_t phase = 0; ///< how often the cluster had met
  bool isLaneOf(const Epoch &other) const { return lane == other.lane && block == other.block; }
};

/// Of some blocks, the last moments of their lanes.
using Moments = std::map<int, std::vector<uint32_t>>;

/// What a lane knows: for each lane of its block, the last moment that happened before; of other
/// blocks, everything before the cluster's last meeting, and what came with their messages.
struct Clock {
  int block = 0;
  uint32_t phase = 0;
  std::vector<uint32_t> times;           ///< by lane
  std::shared_ptr<const Moments> others; ///< by messages; null: none

  Epoch now(int lane) const { return {lane, times[lane], block, phase}; }
  bool knows(const Epoch &epoch) const {
    if (epoch.lane < 0)
      return true;
    if (epoch.block == block)
      return epoch.time <= times[epoch.lane];
    if (epoch.phase < phase)
      return true;
    if (!others)
      return false;
    auto found = others->find(epoch.block);
    return found != others->end() && epoch.time <= found->second[epoch.lane];
  }
};
/// `other` may be a clock of another block, whose message a barrier has counted.
void join(Clock &into, const Clock &other);

/// How many fences of the async proxy the lanes of a cluster have made, by block and lane.
using Fences = std::vector<std::vector<uint32_t>>;

class SharedMemory {
public:
  /// Of block `owner` of a cluster, while its bytes lie at `bytes`.
  SharedMemory(unsigned char *bytes, int size, int owner, Fences &fences);

  unsigned char *at(unsigned address) { return bytes + address; }
  int size() const { return limit; }

  /// Records an access of `lane`, whose clock is `clock`, and returns what is wrong with it, or "".
  /// The lane is one of this block or of another of its cluster, as the clock says. `place`: the
  /// code that does it, for the record.
  std::string read(unsigned address, int count, int lane, const Clock &clock, const void *place);
  std::string write(unsigned address, int count, int lane, const Clock &clock, const void *place);
  /// A read of a whole object, whose padding, and members that nobody uses, may be unwritten: bytes
  /// that were written are read, and one of them must be.
  std::string readObject(unsigned address, int count, int lane, const Clock &clock,
                         const void *place);
  /// An atomic update of 4 bytes: no order is needed among atomics, but with everything else.
  std::string atomic(unsigned address, int lane, const Clock &clock, const void *place);
  /// A copy into these bytes begins (checked as a write) and ends.
  std::string beginCopy(unsigned address, int count, int lane, const Clock &clock,
                        const void *place);
  void endCopy(unsigned address, int count, Epoch epoch);
  /// A product of a warpgroup begins and ends to read these bytes. `fences`: of the async proxy,
  /// per lane so far: stores that came after their lane's last fence are not visible to it.
  std::string beginProduct(unsigned address, int count, int lane, const Clock &clock,
                           const std::vector<uint32_t> &fences, const void *place);
  void endProduct(unsigned address, int count, Epoch epoch);
  /// These bytes are an mbarrier from now on: no plain access may touch them.
  std::string makeBarrier(unsigned address, int lane, const Clock &clock, const void *place);
  /// A fence of the async proxy by a lane of this block.
  void fence(int lane) { ++fences[owner][lane]; }

  /// The code of the earlier of two accesses in the last complaint.
  const void *earlierPlace() const { return earlier; }

private:
  struct Access {
    Epoch epoch;
    const void *place = nullptr;
  };
  struct Granule {
    bool written = false, isBarrier = false, generic = false;
    bool atomically = false; ///< the last write was an atomic
    uint32_t block = 0;      ///< that the record is about
    uint32_t fenceCount = 0; ///< of the writing lane, when it stored
    int copying = -1;        ///< the lane whose copy is under way
    int products = 0;        ///< that read these bytes
    Access write;
    std::vector<Access> reads;
  };
  static std::vector<Granule> &records(int owner);
  Granule &granule(unsigned address);
  /// How many of the bytes from `address` on and in front of `end` have one record, that of the
  /// first: 16, 4 or 1. A record of bytes on both sides of either is divided.
  unsigned span(unsigned address, unsigned end);
  void divide(unsigned address, unsigned size, unsigned part);
  /// Calls `body` for each record of these bytes.
  template <typename Body> void each(unsigned address, int count, Body body);
  /// Gives bytes that are now alike one record.
  void unite(unsigned address, int count);
  /// Whether some byte of the word has been written.
  bool isPartlyWritten(unsigned address);
  template <typename Check>
  std::string over(unsigned address, int count, const char *what, Check check);
  std::string describe(const char *what, unsigned address, const Epoch &now, const Access &other,
                       const char *did);

  unsigned char *bytes;
  int limit, owner;
  uint32_t block = 0; ///< a number of its own
  std::vector<Granule> &granules;
  std::vector<bool> wholeChunks, wholeWords; ///< of 16 and of 4 bytes: there is one record
  Fences &fences;
  const void *earlier = nullptr;
};

} // namespace winnow::emulator
