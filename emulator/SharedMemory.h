// The record of a block's shared memory: per byte, who wrote them last and who has read them
// since, as moments of lanes' clocks; whether a copy is under way into them or a product reads
// them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace winnow::emulator {

/// What a lane knows: for each lane, the last moment that happened before.
using Clock = std::vector<uint32_t>;
void join(Clock &into, const Clock &other);

/// A moment of one lane.
struct Epoch {
  int lane = -1;
  uint32_t time = 0;
  bool before(const Clock &clock) const { return lane < 0 || time <= clock[lane]; }
};

class SharedMemory {
public:
  SharedMemory(unsigned char *bytes, int size);

  unsigned char *at(unsigned address) { return bytes + address; }
  int size() const { return limit; }

  /// Records an access of `lane`, whose clock is `clock`, and returns what is wrong with it, or "".
  /// `place`: the code that does it, for the record.
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
  /// How many fences of the async proxy `lane` has made.
  void fence(int lane) { ++fencesOf[lane]; }

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
  static std::vector<Granule> &records();
  Granule &granule(unsigned address);
  /// Whether some byte of the word has been written.
  bool isPartlyWritten(unsigned address);
  template <typename Check>
  std::string over(unsigned address, int count, const char *what, Check check);
  std::string describe(const char *what, unsigned address, int lane, const Access &other,
                       const char *did);

  unsigned char *bytes;
  int limit;
  uint32_t block = 0; ///< a number of its own
  std::vector<Granule> &granules;
  std::vector<uint32_t> fencesOf;
  const void *earlier = nullptr;
};

} // namespace winnow::emulator
