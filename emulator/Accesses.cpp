// Accesses of a block's lanes: to its own shared memory, to that of another block of its cluster
// (distributed shared memory, and messages), and to tensors; see Block.h.
#include "emulator/Cluster.h"
#include "emulator/DeviceMemory.h"
#include <fmt/format.h>

namespace winnow::emulator {

Block::SharedByte Block::findShared(const void *address, const void *place) {
  const auto offset = static_cast<const unsigned char *>(address) - memory.at(0);
  if (offset >= 0 && offset < kSharedArray)
    return {this, static_cast<unsigned>(offset)};
  Block *owner = cluster.ownerOf(address);
  if (!owner)
    return {};
  if (owner == this)
    fail(fmt::format("lane {} uses an address in its block's shared memory that another block of "
                     "the cluster has made, which the emulator does not follow",
                     running->index),
         {place});
  if (running->clock.phase == 0)
    fail(fmt::format("lane {} accesses the shared memory of block {} of the cluster, which may not "
                     "have begun: no sync_cluster comes before it",
                     running->index, owner->rank),
         {place});
  owner->lastVisit = {running->clock.now(running->index), place};
  if (owner->hasEnded()) {
    const Fault fault = owner->visitedAtEnd();
    fail(fault.what, fault.places);
  }
  return {owner, static_cast<unsigned>(static_cast<const unsigned char *>(address) -
                                       cluster.bytesOf(owner->rank))};
}

void Block::check(const SharedByte &byte, const std::string &wrong, const void *place) {
  if (wrong.empty())
    return;
  const std::string where =
      byte.owner == this ? "" : fmt::format("in block {} of the cluster, ", byte.owner->rank);
  fail(where + wrong, {place, byte.owner->memory.earlierPlace()});
}

Fault Block::visitedAtEnd() const {
  return {fmt::format("lane {} of block {} of the cluster accesses the shared memory of block {}, "
                      "which ends with no sync_cluster between them",
                      lastVisit.epoch.lane, lastVisit.epoch.block, rank),
          {lastVisit.place}};
}

void *Block::sharedOf(const void *pointer, int other, const void *place) {
  auto *bytes = static_cast<unsigned char *>(const_cast<void *>(pointer));
  const auto offset = bytes - memory.at(0);
  if (other < 0 || other >= cluster.size())
    fail(fmt::format("lane {} asks for the shared memory of block {} of a cluster of {}",
                     running->index, other, cluster.size()),
         {place});
  if (offset < 0 || offset >= kSharedArray)
    fail(fmt::format("lane {} asks where block {} of the cluster has what is not in shared memory",
                     running->index, other),
         {place});
  return other == rank ? bytes : cluster.bytesOf(other) + offset;
}

//===-- Messages ------------------------------------------------------------------------------===//

/// Behind the bytes of an address in shared memory: the block that it lies in, and 1.
constexpr unsigned kBlockShift = 20;
static_assert(kSharedArray < 1 << kBlockShift);

unsigned Block::sharedAddressOf(unsigned address, int other, const void *place) {
  if (other < 0 || other >= cluster.size())
    fail(fmt::format("lane {} asks for the shared memory of block {} of a cluster of {}",
                     running->index, other, cluster.size()),
         {place});
  return static_cast<unsigned>(other + 1) << kBlockShift | address;
}

std::pair<Block *, unsigned> Block::receiver(unsigned address, const void *place) {
  const int other = static_cast<int>(address >> kBlockShift) - 1;
  if (other < 0 || other >= cluster.size())
    fail(fmt::format("lane {} sends to an address that shared_address_of has not made",
                     running->index),
         {place});
  Block &block = cluster.block(other);
  if (&block != this && running->clock.phase == 0)
    fail(fmt::format("lane {} sends to block {} of the cluster, which may not have begun: no "
                     "sync_cluster comes before it",
                     running->index, other),
         {place});
  if (block.hasEnded())
    fail(fmt::format("lane {} of block {} of the cluster sends to block {}, which has ended",
                     running->index, rank, other),
         {place});
  return {&block, address & ((1u << kBlockShift) - 1)};
}

void Block::checkBarrierOf(Block &receiver, unsigned address, const void *place) {
  auto found = receiver.barriers.find(address);
  if (found == receiver.barriers.end())
    fail(fmt::format("a message is counted at byte {} of shared memory, which is no barrier",
                     address),
         {place});
  if (!running->clock.knows(found->second.initialised))
    fail(fmt::format("lane {} uses the barrier at byte {} before its initialisation is visible to "
                     "it",
                     running->index, address),
         {place});
}

void Block::send(unsigned to, unsigned barrier, const void *words, int bytes, const void *place) {
  auto [block, offset] = receiver(to, place);
  auto [counting, counter] = receiver(barrier, place);
  if (block != counting || offset % bytes != 0)
    fail(fmt::format("lane {} sends {} bytes to byte {} of block {}, which a barrier of block {} "
                     "counts: one block, and a multiple of them",
                     running->index, bytes, offset, block->rank, counting->rank),
         {place});
  checkBarrierOf(*block, counter, place);
  Lane &lane = *running;
  check({block, offset}, block->memory.beginCopy(offset, bytes, lane.index, lane.clock, place),
        place);
  const auto *first = static_cast<const unsigned char *>(words);
  Copy copy{offset, nullptr, bytes, {first, first + bytes}};
  block->later.push_back({{std::move(copy)}, counter, 0, bytes, lane.index, lane.clock});
  ++lane.clock.times[lane.index];
}

void Block::announce(unsigned barrier, int bytes, const void *place) {
  auto [block, counter] = receiver(barrier, place);
  checkBarrierOf(*block, counter, place);
  Lane &lane = *running;
  block->later.push_back({{}, counter, 1, -bytes, lane.index, lane.clock});
  ++lane.clock.times[lane.index];
}

//===-- Accesses ------------------------------------------------------------------------------===//

void Block::readShared(unsigned address, int bytes, int lane, const void *place) {
  check({this, address}, memory.read(address, bytes, lane, lanes[lane].clock, place), place);
}

void Block::access(const void *address, int bytes, bool writes, const void *place) {
  if (isStack(address))
    return;
  const Lane &lane = *running;
  if (const SharedByte byte = findShared(address, place); byte.owner) {
    SharedMemory &record = byte.owner->memory;
    check(byte,
          writes ? record.write(byte.offset, bytes, lane.index, lane.clock, place)
                 : record.read(byte.offset, bytes, lane.index, lane.clock, place),
          place);
  } else if (!isDeviceMemory(address, bytes)) {
    fail(fmt::format("lane {} {} {} bytes outside every tensor", lane.index,
                     writes ? "writes" : "reads", bytes),
         {place});
  }
  const bool isVector = bytes == 4 || bytes == 8 || bytes == 16;
  if (isVector && reinterpret_cast<uintptr_t>(address) % bytes != 0)
    fail(fmt::format("lane {} accesses {} bytes at an address that is no multiple of them",
                     lane.index, bytes),
         {place});
}

void Block::readObject(const void *address, int bytes, const void *place) {
  const SharedByte byte = isStack(address) ? SharedByte() : findShared(address, place);
  if (byte.owner)
    check(byte,
          byte.owner->memory.readObject(byte.offset, bytes, running->index, running->clock, place),
          place);
  else
    access(address, bytes, false, place);
}

/// Atomics order nothing by themselves; among each other they need no order.
unsigned *Block::atomicWord(void *address, const void *place) {
  if (const SharedByte byte = findShared(address, place); byte.owner)
    check(byte, byte.owner->memory.atomic(byte.offset, running->index, running->clock, place),
          place);
  else if (!isDeviceMemory(address, 4))
    fail(fmt::format("lane {} updates 4 bytes outside every tensor", running->index), {place});
  return static_cast<unsigned *>(address);
}

} // namespace winnow::emulator
