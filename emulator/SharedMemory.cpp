// See SharedMemory.h.
#include "emulator/SharedMemory.h"
#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace winnow::emulator {

/// Bytes that may have one record.
static constexpr unsigned kChunk = 16, kWord = 4;

static void joinTimes(std::vector<uint32_t> &into, const std::vector<uint32_t> &other) {
  into.resize(std::max(into.size(), other.size()));
  for (size_t i = 0; i < other.size(); ++i)
    into[i] = std::max(into[i], other[i]);
}

void join(Clock &into, const Clock &other) {
  if (into.block == other.block)
    joinTimes(into.times, other.times);
  if (into.others == other.others && into.block == other.block)
    return;
  if (!into.others && into.block == other.block) {
    into.others = other.others;
    return;
  }
  auto all = std::make_shared<Moments>(into.others ? *into.others : Moments());
  auto add = [&](int block, const std::vector<uint32_t> &times) {
    joinTimes(block == into.block ? into.times : (*all)[block], times);
  };
  if (into.block != other.block)
    add(other.block, other.times);
  if (other.others)
    for (const auto &[block, times] : *other.others)
      add(block, times);
  into.others = std::move(all);
}

SharedMemory::SharedMemory(unsigned char *bytes, int size, int owner, Fences &fences)
    : bytes(bytes), limit(size), owner(owner), granules(records(owner)),
      wholeChunks(size / kChunk, true), wholeWords(size / kWord, true), fences(fences) {
  static uint32_t blocks = 0;
  block = ++blocks;
  if (granules.size() < static_cast<size_t>(size))
    granules.resize(size);
}

/// Kept from cluster to cluster: what an earlier block has left is forgotten when it is met.
std::vector<SharedMemory::Granule> &SharedMemory::records(int owner) {
  static auto *all = new std::map<int, std::vector<Granule>>;
  return (*all)[owner];
}

SharedMemory::Granule &SharedMemory::granule(unsigned address) {
  Granule &found = granules[address];
  if (found.block != block) {
    std::vector<Access> reads = std::move(found.reads); // for its memory
    reads.clear();
    found = Granule();
    found.reads = std::move(reads);
    found.block = block;
  }
  return found;
}

void SharedMemory::divide(unsigned address, unsigned size, unsigned part) {
  const Granule &whole = granule(address);
  for (unsigned at = address + part; at < address + size; at += part)
    granules[at] = whole;
}

unsigned SharedMemory::span(unsigned address, unsigned end) {
  const unsigned chunk = address / kChunk;
  if (chunk < wholeChunks.size() && wholeChunks[chunk]) {
    if (address % kChunk == 0 && end - address >= kChunk)
      return kChunk;
    divide(chunk * kChunk, kChunk, kWord);
    wholeChunks[chunk] = false;
    for (unsigned word = 0; word < kChunk / kWord; ++word)
      wholeWords[chunk * kChunk / kWord + word] = true;
  }
  const unsigned word = address / kWord;
  if (word < wholeWords.size() && wholeWords[word]) {
    if (address % kWord == 0 && end - address >= kWord)
      return kWord;
    divide(word * kWord, kWord, 1);
    wholeWords[word] = false;
  }
  return 1;
}

template <typename Body> void SharedMemory::each(unsigned address, int count, Body body) {
  for (unsigned at = address; at < address + count;) {
    const unsigned bytes = span(at, address + count);
    body(granule(at));
    at += bytes;
  }
}

void SharedMemory::unite(unsigned address, int count) {
  const unsigned end = address + count;
  for (unsigned chunk = (address + kChunk - 1) / kChunk; (chunk + 1) * kChunk <= end; ++chunk)
    wholeChunks[chunk] = true;
  for (unsigned word = (address + kWord - 1) / kWord; (word + 1) * kWord <= end; ++word)
    wholeWords[word] = true;
}

bool SharedMemory::isPartlyWritten(unsigned address) {
  const unsigned word = address / kWord * kWord;
  const bool isWhole = wholeWords.size() > word / kWord && wholeWords[word / kWord];
  if (isWhole) // and nobody has written it
    return false;
  for (unsigned at = word; at < std::min(word + kWord, static_cast<unsigned>(limit)); ++at)
    if (granule(at).written)
      return true;
  return false;
}

std::string SharedMemory::describe(const char *what, unsigned address, const Epoch &now,
                                   const Access &other, const char *did) {
  earlier = other.place;
  const bool isOfBlock = now.block == other.epoch.block;
  return fmt::format("lane {} {} byte {} of shared memory, which {} {}, with no {} between them",
                     now.lane, what, address,
                     isOfBlock ? fmt::format("lane {}", other.epoch.lane)
                               : fmt::format("block {} of the cluster", other.epoch.block),
                     did, isOfBlock ? "barrier" : "sync_cluster");
}

template <typename Check>
std::string SharedMemory::over(unsigned address, int count, const char *what, Check check) {
  earlier = nullptr;
  if (count < 0 || address > static_cast<unsigned>(limit) ||
      static_cast<unsigned>(count) > static_cast<unsigned>(limit) - address)
    return fmt::format("{} {} bytes at {}, outside the kernel's {} bytes of shared memory", what,
                       count, address, limit);
  for (unsigned at = address; at < address + count;) {
    const unsigned bytes = span(at, address + count);
    if (std::string fault = check(granule(at), at); !fault.empty())
      return fault;
    at += bytes;
  }
  return "";
}

std::string SharedMemory::read(unsigned address, int count, int lane, const Clock &clock,
                               const void *place) {
  return over(address, count, "reads", [&](Granule &granule, unsigned at) -> std::string {
    if (granule.isBarrier)
      return fmt::format("lane {} reads byte {} of shared memory, which is a barrier", lane, at);
    if (granule.copying >= 0)
      return fmt::format("lane {} reads byte {} of shared memory before lane {} has waited for its "
                         "copy into it",
                         lane, at, granule.copying);
    // The rest of a word that is partly written may be read beside it: masks are read by the word.
    if (!granule.written && isPartlyWritten(at))
      return "";
    if (!granule.written)
      return fmt::format("lane {} reads byte {} of shared memory, which nobody has written", lane,
                         at);
    if (!clock.knows(granule.write.epoch))
      return describe("reads", at, clock.now(lane), granule.write, "writes");
    for (Access &access : granule.reads)
      if (access.epoch.isLaneOf(clock.now(lane))) {
        access = {clock.now(lane), place};
        return "";
      }
    granule.reads.push_back({clock.now(lane), place});
    return "";
  });
}

std::string SharedMemory::readObject(unsigned address, int count, int lane, const Clock &clock,
                                     const void *place) {
  bool any = false;
  const unsigned end = std::min<unsigned>(address + count, limit); // over looks at what is behind
  for (unsigned at = address; at < end;) {
    const unsigned bytes = span(at, end);
    const Granule &own = granule(at);
    if (own.written || own.isBarrier || own.copying >= 0) {
      any = true;
      if (std::string wrong = read(at, bytes, lane, clock, place); !wrong.empty())
        return wrong;
    }
    at += bytes;
  }
  if (end < address + count)
    return read(address, count, lane, clock, place);
  return any ? "" : read(address, count, lane, clock, place);
}

std::string SharedMemory::beginCopy(unsigned address, int count, int lane, const Clock &clock,
                                    const void *place) {
  return over(address, count, "copies", [&](Granule &granule, unsigned at) -> std::string {
    if (granule.isBarrier)
      return fmt::format("lane {} writes byte {} of shared memory, which is a barrier", lane, at);
    if (granule.copying >= 0)
      return fmt::format(
          "lane {} writes byte {} of shared memory while a copy of lane {} into it is "
          "under way",
          lane, at, granule.copying);
    if (granule.products > 0)
      return fmt::format("lane {} writes byte {} of shared memory while a product of a warpgroup "
                         "still reads it",
                         lane, at);
    if (granule.written && !clock.knows(granule.write.epoch))
      return describe("writes", at, clock.now(lane), granule.write, "writes");
    for (const Access &access : granule.reads)
      if (!clock.knows(access.epoch))
        return describe("writes", at, clock.now(lane), access, "reads");
    granule.reads.clear();
    granule.copying = lane;
    granule.atomically = false;
    granule.write = {clock.now(lane), place};
    return "";
  });
}

std::string SharedMemory::atomic(unsigned address, int lane, const Clock &clock,
                                 const void *place) {
  return over(address, 4, "updates", [&](Granule &granule, unsigned at) -> std::string {
    if (granule.isBarrier || granule.copying >= 0 || granule.products > 0)
      return fmt::format(
          "lane {} updates byte {} of shared memory, which is a barrier or in use by "
          "a copy or a product",
          lane, at);
    if (!granule.written)
      return fmt::format("lane {} updates byte {} of shared memory, which nobody has written", lane,
                         at);
    if (!granule.atomically && !clock.knows(granule.write.epoch))
      return describe("updates", at, clock.now(lane), granule.write, "writes");
    for (const Access &access : granule.reads)
      if (!clock.knows(access.epoch))
        return describe("updates", at, clock.now(lane), access, "reads");
    granule.reads.clear();
    granule.atomically = granule.generic = true;
    granule.fenceCount = fences[clock.block][lane];
    granule.write = {clock.now(lane), place};
    return "";
  });
}

std::string SharedMemory::write(unsigned address, int count, int lane, const Clock &clock,
                                const void *place) {
  std::string fault = beginCopy(address, count, lane, clock, place);
  if (!fault.empty())
    return fault;
  each(address, count, [&](Granule &own) {
    own.copying = -1;
    own.written = own.generic = true;
    own.fenceCount = fences[clock.block][lane];
  });
  unite(address, count);
  return "";
}

void SharedMemory::endCopy(unsigned address, int count, Epoch epoch) {
  each(address, count, [&](Granule &own) {
    own.copying = -1;
    own.written = true;
    own.generic = false;
    own.write.epoch = epoch;
  });
  unite(address, count);
}

std::string SharedMemory::beginProduct(unsigned address, int count, int lane, const Clock &clock,
                                       const std::vector<uint32_t> &, const void *place) {
  std::string fault = read(address, count, lane, clock, place);
  if (!fault.empty())
    return fault;
  return over(address, count, "reads", [&](Granule &granule, unsigned at) -> std::string {
    const Epoch &writer = granule.write.epoch;
    if (granule.generic && granule.fenceCount == fences[writer.block][writer.lane]) {
      earlier = granule.write.place;
      return fmt::format("a product of a warpgroup reads byte {} of shared memory, which lane {} "
                         "stored without a fence for the async proxy",
                         at, writer.lane);
    }
    ++granule.products;
    return "";
  });
}

void SharedMemory::endProduct(unsigned address, int count, Epoch epoch) {
  each(address, count, [&](Granule &own) {
    --own.products;
    for (Access &access : own.reads)
      if (access.epoch.isLaneOf(epoch))
        access.epoch = epoch;
  });
}

std::string SharedMemory::makeBarrier(unsigned address, int lane, const Clock &clock,
                                      const void *place) {
  std::string fault = beginCopy(address, 8, lane, clock, place);
  if (!fault.empty())
    return fault;
  each(address, 8, [](Granule &own) {
    own.copying = -1;
    own.isBarrier = true;
  });
  return "";
}

} // namespace winnow::emulator
