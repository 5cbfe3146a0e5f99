// Limits as the system states them; one that cannot be read limits nothing.
#include "tools/winnow/backends/HostMemory.h"
#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <limits>
#include <sys/resource.h>
#include <unistd.h>

namespace winnow {

uint64_t hostMemoryLimit() {
  uint64_t limit = saturatingProduct({static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)),
                                      static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))});
  rlimit space{};
  if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY)
    limit = std::min<uint64_t>(limit, space.rlim_cur);
  for (const char *path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
    if (uint64_t bytes = 0; std::ifstream(path) >> bytes && bytes > 0) // "max" is no number
      limit = std::min(limit, bytes);
  return limit;
}

uint64_t saturatingProduct(std::initializer_list<uint64_t> factors) {
  uint64_t product = 1;
  for (uint64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product))
      return std::numeric_limits<uint64_t>::max();
  return product;
}

Status requireTensors(const Spec &spec, int64_t tokens) {
  // Queries, keys, values and output, and where there are gradients one of each; log-sum-exp, ids.
  const uint64_t each = spec.backward ? 2 : 1;
  const uint64_t row =
      each * 2 * uint64_t(spec.heads + spec.kvHeads) * uint64_t(spec.headDim + spec.valueWidth()) +
      4 * uint64_t(spec.heads) + 4 * uint64_t(spec.kvHeads) * spec.topk;
  const uint64_t bytes = saturatingProduct({row, static_cast<uint64_t>(tokens)});
  const uint64_t limit = hostMemoryLimit();
  if (bytes <= limit)
    return {};
  return fail(ErrorKind::DeviceFailed,
              fmt::format("out of memory: {} tokens of {} query and {} key/value heads need {:.1f} "
                          "GiB on the host, this process may have {:.1f} GiB",
                          tokens, spec.heads, spec.kvHeads, static_cast<double>(bytes) / (1 << 30),
                          static_cast<double>(limit) / (1 << 30)));
}

} // namespace winnow
