// One block of threads in emulation: a fibre per lane, the barriers they meet at, and the shared
// memory they share, with a record of who touched it when. A cluster (Cluster.h) runs its blocks by
// turns. Entry: a kernel of the host, compiled against templates/arch/emulated.cuh. Everything runs
// on one thread of the host; lanes change over only where an instruction makes them wait, in an
// order that the seed decides.
//
// Order between lanes is told by vector clocks (one number per lane; Lamport's happened-before, in
// the form of FastTrack, Flanagan and Freund 2009): a barrier hands on what its arrivals knew. Two
// accesses to the same bytes, one of them a write, need such an order.
#pragma once
#include "emulator/Fiber.h"
#include "emulator/SharedMemory.h"
#include "templates/Params.h"
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace winnow::emulator {

class Cluster;

/// What broke a rule, in one sentence; `places` are the code addresses that it is about.
struct Fault {
  std::string what;
  std::vector<const void *> places;
};

/// A copy that a lane has begun: from device memory up to 16 bytes (cp.async) or rows of a bulk
/// copy, or words that it sends to a block of the cluster.
struct Copy {
  unsigned to = 0;
  const void *from = nullptr; ///< null: zeros
  int bytes = 0;
  std::vector<unsigned char> words = {}; ///< in the place of `from`, where it is no copy
};

/// A copy or an arrival that happens some time after the lane has asked for it.
struct Later {
  std::vector<Copy> copies;
  unsigned barrier = 0;
  int arrivals = 0, bytes = 0; ///< on the barrier, when the copies have landed
  int lane = 0;
  Clock known; ///< what the lane knew when it asked
};

/// A product of a warpgroup that has been issued: the lane's part.
struct Product {
  float *sum = nullptr;
  int columns = 0;
  bool isBf16 = false, accumulate = false, leftInRegisters = false;
  unsigned leftWords[4] = {};
  uint64_t left = 0, right = 0;
};

struct Lane {
  int index = 0;
  Fiber fiber;
  bool done = false, waiting = false;
  const char *waitsFor = ""; ///< an instruction
  const void *place = nullptr;
  unsigned barrier = 0; ///< of a wait
  Clock clock;
  std::vector<Copy> copies;                 ///< begun, not waited for
  std::vector<std::vector<Product>> groups; ///< of products; the last one is open
};

/// An mbarrier (PTX ISA, "mbarrier").
struct TransactionBarrier {
  int expected = 0, pending = 0;
  int64_t bytes = 0;
  int phase = 0;
  Epoch initialised;
  Clock arriving, completed;
};

class Block {
public:
  using Kernel = void (*)(Params params);
  /// Block `rank` of the cluster: lanes over `shared`, of which the kernel may use `sharedBytes`.
  /// Each begins with the kernel; `params` outlive it.
  Block(Cluster &cluster, int rank, int threads, unsigned char *shared, int sharedBytes,
        Kernel kernel, const Params &params, uint64_t seed);
  Block(const Block &) = delete; // its fibres know where it lies
  Block &operator=(const Block &) = delete;
  /// Runs it until each of its lanes has ended or waits for what may come from other blocks; what
  /// broke a rule, or nothing.
  std::optional<Fault> run();
  bool canRun() const { return !ready.empty() || !later.empty() || !asking.empty(); }
  /// Whether a lane did anything but ask again, when it ran last.
  bool hasComeOn() const { return cameOn; }
  bool hasEnded() const;
  /// Whether its lanes neither have ended nor wait at sync_cluster, all of them.
  bool isStuck() const { return !hasEnded() && atClusterSync < lanes.size(); }
  /// That it stays stuck.
  Fault deadlock() const;
  /// Where its lanes wait at sync_cluster.
  const void *waitsAt() const { return lanes[0].place; }
  /// All lanes come from sync_cluster, knowing what every block of the cluster has done.
  void leaveClusterSync();

  Lane &current() { return *running; }
  const int rank; ///< in the cluster
  Cluster &cluster;
  /// Ends the run. Does not come back to a lane that calls it.
  void fail(const std::string &what, std::vector<const void *> places = {});

  // The instructions; `place` is where the kernel calls.
  void warp(int operation, unsigned lanes, void *value, const void *place);
  unsigned sync(int id, int threads, bool vote, const void *place);
  void syncCluster(const void *place);
  /// Until other blocks have run, which may have written what the lane asks device memory for.
  void awaitOthers(const void *place);
  void copyAsync(unsigned to, const void *from, int bytes, const void *place);
  void waitCopies(const void *place);
  void copyLater(std::vector<Copy> copies, unsigned barrier, int arrivals, int bytes,
                 const void *place);
  void initBarrier(unsigned barrier, int arrivals, const void *place);
  void arrive(unsigned barrier, int times, int bytes, const void *place);
  void wait(unsigned barrier, int phase, const void *place);
  bool isComplete(unsigned address, int phase, const void *place);
  void issueProduct(const Product &product, const void *place);
  void commitProducts() { current().groups.emplace_back(); }
  void waitProducts(int pending, const void *place);
  /// A meeting of the lane's warpgroup, without any order of memory.
  void meetWarpgroup(const char *instruction, const void *place);

  /// A plain access of a lane to its block's shared memory, or of the running lane to any memory,
  /// that of other blocks of the cluster too; fails where a rule is broken.
  void readShared(unsigned address, int bytes, int lane, const void *place);
  void access(const void *address, int bytes, bool writes, const void *place);
  /// A read of a whole object by the running lane, as a copy of a struct does it.
  void readObject(const void *address, int bytes, const void *place);
  unsigned *atomicWord(void *address, const void *place);
  /// Where block `other` of the cluster has what `pointer` points to in this one.
  void *sharedOf(const void *pointer, int other, const void *place);
  /// The same of an address, as send and announce take it.
  unsigned sharedAddressOf(unsigned address, int other, const void *place);
  /// Words to a block of the cluster, whose bytes its barrier will count; and an arrival there that
  /// makes it wait for `bytes` more.
  void send(unsigned to, unsigned barrier, const void *words, int bytes, const void *place);
  void announce(unsigned barrier, int bytes, const void *place);

  SharedMemory memory;
  /// The last access of another block to this one's shared memory.
  struct Visit {
    Epoch epoch;
    const void *place = nullptr;
  } lastVisit;
  /// That this visit may come after the block's end.
  Fault visitedAtEnd() const;

private:
  struct Meeting {
    std::vector<int> lanes; ///< that have come
    std::vector<void *> values;
    int operation = 0, threads = 0;
    unsigned expected = 0, result = 0;
    uint64_t turn = 0;
    const void *place = nullptr;
  };
  static void beginLane(void *block);
  /// A byte of shared memory that an address stands for, of whichever block of the cluster.
  struct SharedByte {
    Block *owner = nullptr; ///< null: the address is no shared memory
    unsigned offset = 0;
  };
  SharedByte findShared(const void *address, const void *place);
  void check(const SharedByte &byte, const std::string &wrong, const void *place);
  void suspend(const char *instruction, const void *place);
  void wake(Lane &lane);
  Clock emptyClock() const; ///< of somebody who knows nothing
  void complete(const Later &done);
  void completeSome(bool must);
  void completePhase(unsigned address, TransactionBarrier &barrier);
  TransactionBarrier &barrierAt(unsigned address, const char *instruction, const void *place);
  void joinAll(const std::vector<int> &members);
  std::string waits() const;
  /// The block of the cluster that an address of sharedAddressOf lies in, and the address there.
  std::pair<Block *, unsigned> receiver(unsigned address, const void *place);
  /// That the running lane may have a message counted there.
  void checkBarrierOf(Block &receiver, unsigned address, const void *place);
  void multiplyGroup(int warpgroup, size_t group);

  const Kernel kernel;
  const Params &params;
  std::vector<Lane> lanes;
  Lane *running = nullptr;
  Fiber scheduler;
  std::vector<Lane *> ready, asking; ///< `asking`: in awaitOthers
  bool cameOn = false;
  size_t atClusterSync = 0; ///< lanes that wait there
  std::vector<Later> later;
  std::map<unsigned, TransactionBarrier> barriers;
  std::map<int, Meeting> namedBarriers; ///< by id
  std::vector<Meeting> warps, warpgroups;
  std::mt19937_64 random;
  Fault fault;
  bool failed = false;
};

/// The block that runs, or null.
Block *runningBlock();
/// Whether an address lies on a lane's stack.
bool isStack(const void *address);
/// The read-only parts of the kernel's object, which every lane may read.
void setConstants(const void *begin, const void *end);

} // namespace winnow::emulator
