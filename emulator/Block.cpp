// The lanes of a block and how they wait for each other; see Block.h.
#include "emulator/Block.h"
#include "emulator/Cluster.h"
#include "emulator/Products.h"
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <numeric>
#include <sys/mman.h>
#include <utility>

/// As the kernels declare them (templates/arch/emulated.cuh).
struct EmulatedIndex {
  unsigned x, y, z;
};
extern "C" EmulatedIndex threadIdx;

namespace winnow::emulator {

namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr int kMostLanes = 1024 * kMostClusterBlocks, kWarpLanes = 32, kGroupLanes = 128;
Block *active = nullptr;

/// Those of a cluster's lanes, kept from cluster to cluster; pages that were never touched take no
/// memory.
unsigned char *stacks() {
  static unsigned char *memory =
      static_cast<unsigned char *>(::mmap(nullptr, kStackBytes * kMostLanes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

} // namespace

Block *runningBlock() { return active; }
bool isStack(const void *address) {
  auto *byte = static_cast<const unsigned char *>(address);
  return byte >= stacks() && byte < stacks() + kStackBytes * kMostLanes;
}

/// What a lane's fibre begins with.
void Block::beginLane(void *block) {
  auto &self = *static_cast<Block *>(block);
  self.kernel(self.params);
  Lane &lane = self.current();
  lane.done = true;
  if (!lane.copies.empty() || lane.groups.size() > 1 || !lane.groups[0].empty())
    self.fail(
        fmt::format("lane {} ends with copies or products that nobody waited for", lane.index),
        {lane.place});
  self.scheduler.enter(lane.fiber);
}

Block::Block(Cluster &cluster, int rank, int threads, unsigned char *shared, int sharedBytes,
             Kernel kernel, const Params &params, uint64_t seed)
    : rank(rank), cluster(cluster), memory(shared, sharedBytes, rank, cluster.fences()),
      kernel(kernel), params(params), lanes(threads),
      warps((threads + kWarpLanes - 1) / kWarpLanes),
      warpgroups((threads + kGroupLanes - 1) / kGroupLanes), random(seed) {
  for (int i = 0; i < threads; ++i) {
    Lane &lane = lanes[i];
    lane.index = i;
    lane.clock = emptyClock();
    lane.clock.times[i] = 1;
    lane.groups.resize(1);
    lane.fiber.prepare(stacks() + kStackBytes * (static_cast<size_t>(rank) * threads + i),
                       kStackBytes, beginLane, this);
    ready.push_back(&lane);
  }
}

std::optional<Fault> Block::run() {
  active = this;
  cameOn = !later.empty() || !ready.empty();
  for (Lane *lane : std::exchange(asking, {}))
    wake(*lane);
  while (!failed) {
    completeSome(/*must=*/ready.empty());
    if (failed || ready.empty())
      break;
    std::swap(ready[random() % ready.size()], ready.back());
    running = ready.back();
    ready.pop_back();
    threadIdx.x = static_cast<unsigned>(running->index);
    running->fiber.enter(scheduler);
    cameOn |= asking.empty() || asking.back() != running;
    running = nullptr;
  }
  active = nullptr;
  return failed ? std::optional<Fault>(fault) : std::nullopt;
}

bool Block::hasEnded() const {
  return std::all_of(lanes.begin(), lanes.end(), [](const Lane &lane) { return lane.done; });
}

Clock Block::emptyClock() const {
  return {rank, 0, std::vector<uint32_t>(lanes.size(), 0), nullptr};
}

void Block::fail(const std::string &what, std::vector<const void *> places) {
  fault = {what, std::move(places)};
  failed = true;
  if (running)
    scheduler.enter(running->fiber); // never comes back
}

Fault Block::deadlock() const {
  std::vector<const void *> places;
  for (const Lane &lane : lanes)
    if (!lane.done && std::find(places.begin(), places.end(), lane.place) == places.end())
      places.push_back(lane.place);
  return {"deadlock: " + waits(), places};
}

std::string Block::waits() const {
  std::string text;
  for (size_t first = 0; first < lanes.size();) {
    const Lane &lane = lanes[first];
    size_t last = first + 1;
    auto same = [&](const Lane &other) {
      return other.done == lane.done &&
             (lane.done || (other.place == lane.place && other.barrier == lane.barrier &&
                            std::strcmp(other.waitsFor, lane.waitsFor) == 0));
    };
    while (last < lanes.size() && same(lanes[last]))
      ++last;
    text += fmt::format("{}lanes {} to {} {}", first ? "; " : "", first, last - 1,
                        lane.done ? "have ended" : fmt::format("wait at {}", lane.waitsFor));
    if (!lane.done && lane.barrier != 0)
      text += fmt::format(" of the barrier at byte {}", lane.barrier);
    first = last;
  }
  return text;
}

void Block::suspend(const char *instruction, const void *place) {
  Lane &lane = *running;
  lane.waiting = true;
  lane.waitsFor = instruction;
  lane.place = place;
  scheduler.enter(lane.fiber);
}

void Block::wake(Lane &lane) {
  if (!lane.waiting)
    return;
  lane.waiting = false;
  lane.waitsFor = "";
  lane.barrier = 0;
  ready.push_back(&lane);
}

void Block::joinAll(const std::vector<int> &members) {
  Clock all = lanes[members[0]].clock;
  for (int member : members)
    join(all, lanes[member].clock);
  for (int member : members) {
    lanes[member].clock = all;
    ++lanes[member].clock.times[member];
  }
}

void Block::warp(int operation, unsigned mask, void *value, const void *place) {
  const int index = running->index, warpIndex = index / kWarpLanes, lane = index % kWarpLanes;
  Meeting &meeting = warps[warpIndex];
  if ((mask >> lane & 1) == 0)
    fail(fmt::format("lane {} takes part in an instruction of its warp that names other lanes only",
                     index),
         {place});
  if (meeting.lanes.empty()) {
    meeting.operation = operation;
    meeting.expected = mask;
    meeting.place = place;
    meeting.values.assign(kWarpLanes, nullptr);
  } else if (meeting.operation != operation || meeting.expected != mask) {
    fail(fmt::format("the lanes of warp {} are at different instructions that take the whole warp: "
                     "lane {} is at another one than lane {}",
                     warpIndex, index, meeting.lanes[0]),
         {meeting.place, place});
  }
  meeting.lanes.push_back(index);
  meeting.values[lane] = value;
  unsigned come = 0;
  for (int member : meeting.lanes)
    come |= 1u << member % kWarpLanes;
  if (come != mask) {
    suspend("an instruction of the whole warp", place);
    return;
  }
  std::vector<int> members = std::move(meeting.lanes);
  std::vector<void *> values = std::move(meeting.values);
  meeting = {};
  if (operation == kWarpSync)
    joinAll(members);
  else
    performWarp(*this, operation, warpIndex * kWarpLanes, values, place);
  for (int member : members)
    if (member != index)
      wake(lanes[member]);
}

unsigned Block::sync(int id, int threads, bool vote, const void *place) {
  const int index = running->index;
  Meeting &meeting = namedBarriers[id];
  if (meeting.lanes.empty()) {
    meeting.threads = threads;
    meeting.result = 0;
  } else if (meeting.threads != threads) {
    fail(fmt::format("lane {} comes to barrier {} for {} threads, lane {} for {}", index, id,
                     threads, meeting.lanes[0], meeting.threads),
         {place});
  }
  meeting.lanes.push_back(index);
  meeting.result |= vote;
  if (static_cast<int>(meeting.lanes.size()) < threads) {
    const uint64_t turn = meeting.turn;
    suspend(id == 0 ? "sync_threads" : "a named barrier", place);
    // The result stays until the barrier is complete again, which needs this lane.
    (void)turn;
    return meeting.expected;
  }
  std::vector<int> members = std::move(meeting.lanes);
  meeting.lanes.clear();
  meeting.expected = meeting.result;
  joinAll(members);
  for (int member : members)
    if (member != index)
      wake(lanes[member]);
  return meeting.expected;
}

void Block::syncCluster(const void *place) {
  ++atClusterSync;
  suspend("sync_cluster", place);
}

void Block::awaitOthers(const void *place) {
  asking.push_back(running);
  suspend("what another block of threads has yet to write", place);
}

void Block::leaveClusterSync() {
  atClusterSync = 0;
  std::vector<int> all(lanes.size());
  std::iota(all.begin(), all.end(), 0);
  joinAll(all);
  for (Lane &lane : lanes) {
    ++lane.clock.phase;
    wake(lane);
  }
}

void Block::meetWarpgroup(const char *instruction, const void *place) {
  const int index = running->index;
  Meeting &meeting = warpgroups[index / kGroupLanes];
  meeting.lanes.push_back(index);
  if (meeting.lanes.size() < kGroupLanes) {
    suspend(instruction, place);
    return;
  }
  std::vector<int> members = std::move(meeting.lanes);
  meeting.lanes.clear();
  for (int member : members)
    if (member != index)
      wake(lanes[member]);
}

//===-- Copies --------------------------------------------------------------------------------===//

void Block::copyAsync(unsigned to, const void *from, int bytes, const void *place) {
  Lane &lane = *running;
  if (to % 16 != 0 || (bytes > 0 && reinterpret_cast<uintptr_t>(from) % 16 != 0))
    fail(fmt::format("lane {} copies 16 bytes from or to an address that is no multiple of 16",
                     lane.index),
         {place});
  if (std::string wrong = memory.beginCopy(to, 16, lane.index, lane.clock, place); !wrong.empty())
    fail(wrong, {place, memory.earlierPlace()});
  lane.place = place;
  lane.copies.push_back({to, bytes > 0 ? from : nullptr, 16});
}

static void land(SharedMemory &memory, const Copy &copy, Epoch epoch) {
  if (!copy.words.empty())
    std::memcpy(memory.at(copy.to), copy.words.data(), copy.bytes);
  else if (copy.from)
    std::memcpy(memory.at(copy.to), copy.from, copy.bytes);
  else
    std::memset(memory.at(copy.to), 0, copy.bytes);
  memory.endCopy(copy.to, copy.bytes, epoch);
}

void Block::waitCopies(const void *) {
  Lane &lane = *running;
  for (const Copy &copy : lane.copies)
    land(memory, copy, lane.clock.now(lane.index));
  lane.copies.clear();
}

void Block::copyLater(std::vector<Copy> copies, unsigned barrier, int arrivals, int bytes,
                      const void *place) {
  Lane &lane = *running;
  barrierAt(barrier, "a copy", place);
  for (const Copy &copy : copies)
    if (std::string wrong = memory.beginCopy(copy.to, copy.bytes, lane.index, lane.clock, place);
        !wrong.empty())
      fail(wrong, {place, memory.earlierPlace()});
  if (arrivals > 0) { // what cp.async has begun so far arrives with it
    copies.insert(copies.end(), lane.copies.begin(), lane.copies.end());
    lane.copies.clear();
  }
  later.push_back({std::move(copies), barrier, arrivals, bytes, lane.index, lane.clock});
  ++lane.clock.times[lane.index];
}

void Block::complete(const Later &done) {
  if (done.known.block != rank && hasEnded())
    fail(fmt::format("what lane {} of block {} of the cluster has sent comes to block {}, which "
                     "has ended",
                     done.lane, done.known.block, rank));
  if (failed)
    return;
  for (const Copy &copy : done.copies)
    land(memory, copy, done.known.now(done.lane));
  TransactionBarrier &barrier = barriers.at(done.barrier);
  join(barrier.arriving, done.known);
  barrier.pending -= done.arrivals;
  barrier.bytes -= done.bytes;
  completePhase(done.barrier, barrier);
}

/// One of the copies that are under way lands now and then; all the time where nothing else can
/// happen.
void Block::completeSome(bool must) {
  while (!later.empty() && (must || random() % 4 == 0)) {
    std::swap(later[random() % later.size()], later.back());
    const Later done = std::move(later.back());
    later.pop_back();
    complete(done);
    if (!ready.empty())
      return;
  }
}

//===-- mbarrier ------------------------------------------------------------------------------===//

TransactionBarrier &Block::barrierAt(unsigned address, const char *instruction, const void *place) {
  auto found = barriers.find(address);
  if (found == barriers.end())
    fail(fmt::format("{} at byte {} of shared memory, which is no barrier", instruction, address),
         {place});
  if (running && !running->clock.knows(found->second.initialised))
    fail(fmt::format("lane {} uses the barrier at byte {} before its initialisation is visible to "
                     "it",
                     running->index, address),
         {place});
  return found->second;
}

void Block::initBarrier(unsigned address, int arrivals, const void *place) {
  Lane &lane = *running;
  if (address % 8 != 0 || arrivals < 1)
    fail(fmt::format("a barrier for {} arrivals at byte {} of shared memory", arrivals, address),
         {place});
  if (std::string wrong = memory.makeBarrier(address, lane.index, lane.clock, place);
      !wrong.empty())
    fail(wrong, {place, memory.earlierPlace()});
  TransactionBarrier &barrier = barriers[address];
  barrier.expected = barrier.pending = arrivals;
  barrier.initialised = lane.clock.now(lane.index);
  barrier.arriving = barrier.completed = emptyClock();
}

void Block::completePhase(unsigned address, TransactionBarrier &barrier) {
  if (barrier.pending < 0)
    fail(fmt::format(
        "the barrier at byte {} of shared memory gets more arrivals than the {} that it "
        "was made for",
        address, barrier.expected));
  if (barrier.pending > 0 || barrier.bytes != 0)
    return;
  barrier.phase ^= 1;
  barrier.pending = barrier.expected;
  join(barrier.completed, barrier.arriving);
  for (Lane &lane : lanes)
    if (lane.waiting && lane.barrier == address)
      wake(lane);
}

void Block::arrive(unsigned address, int times, int bytes, const void *place) {
  Lane &lane = *running;
  TransactionBarrier &barrier = barrierAt(address, "an arrival", place);
  lane.place = place;
  join(barrier.arriving, lane.clock);
  ++lane.clock.times[lane.index];
  barrier.bytes += bytes;
  barrier.pending -= times;
  completePhase(address, barrier);
}

void Block::wait(unsigned address, int phase, const void *place) {
  TransactionBarrier &barrier = barrierAt(address, "a wait", place);
  while (barrier.phase == (phase & 1)) {
    running->barrier = address;
    suspend("a phase", place);
  }
  join(running->clock, barrier.completed);
}

bool Block::isComplete(unsigned address, int phase, const void *place) {
  TransactionBarrier &barrier = barrierAt(address, "a test", place);
  if (barrier.phase == (phase & 1))
    return false;
  join(running->clock, barrier.completed);
  return true;
}

//===-- Products of warpgroups ----------------------------------------------------------------===//

void Block::issueProduct(const Product &product, const void *place) {
  Lane &lane = *running;
  lane.place = place;
  if (lane.index % kWarpLanes == 0) // each warp's rows, and all of the right factor
    for (auto [address, bytes] : operandsOf(product, lane.index / kWarpLanes % 4))
      if (std::string wrong =
              memory.beginProduct(address, bytes, lane.index, lane.clock, {}, place);
          !wrong.empty())
        fail(wrong, {place, memory.earlierPlace()});
  lane.groups.back().push_back(product);
}

void Block::multiplyGroup(int warpgroup, size_t group) {
  const int first = warpgroup * kGroupLanes;
  for (int warp = first; warp < first + kGroupLanes; warp += kWarpLanes) {
    const std::vector<Product> &products = lanes[warp].groups[group];
    for (int lane = warp; lane < warp + kWarpLanes; ++lane)
      if (lanes[lane].groups.size() <= group || lanes[lane].groups[group].size() != products.size())
        fail(fmt::format("the lanes of warpgroup {} have issued different products", warpgroup),
             {lanes[lane].place});
    for (size_t i = 0; i < products.size(); ++i) {
      multiplyRows(*this, lanes, warp, group, i);
      for (auto [address, bytes] : operandsOf(products[i], warp / kWarpLanes % 4))
        memory.endProduct(address, bytes, lanes[warp].clock.now(warp));
    }
  }
}

void Block::waitProducts(int pending, const void *place) {
  const int index = running->index, warpgroup = index / kGroupLanes;
  Meeting &meeting = warpgroups[warpgroup];
  const bool isLast = meeting.lanes.size() + 1 == kGroupLanes;
  if (isLast) {
    running->place = place;
    const int first = warpgroup * kGroupLanes;
    const auto committed = static_cast<int>(lanes[index].groups.size()) - 1;
    for (int group = 0; group < committed - pending; ++group)
      multiplyGroup(warpgroup, group);
    for (int lane = first; lane < first + kGroupLanes; ++lane) {
      auto &groups = lanes[lane].groups;
      if (static_cast<int>(groups.size()) - 1 != committed)
        fail(fmt::format("lane {} waits for other products than the rest of its warpgroup", lane),
             {lanes[lane].place, place});
      groups.erase(groups.begin(), groups.begin() + std::max(0, committed - pending));
    }
  }
  meetWarpgroup("a wait for products", place);
}

} // namespace winnow::emulator
