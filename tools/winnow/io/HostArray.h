// Large arrays of host memory whose pages exist only once they are touched: an array of which a few
// rows are looked at costs a few pages, and one that many threads fill is cleared by those threads.
#pragma once
#include <cstddef>
#include <new>
#include <sys/mman.h>
#include <utility>

namespace winnow {

/// Zeros at first. T is a plain number.
template <typename T> class HostArray {
public:
  HostArray() = default;
  /// `dense`: all of it will be touched, so large pages pay off. Throws std::bad_alloc like a
  /// vector.
  HostArray(size_t count, bool dense) : count(count) {
    if (count == 0)
      return;
    void *memory = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
      throw std::bad_alloc();
    if (dense)
      ::madvise(memory, bytes(), MADV_HUGEPAGE);
    first = static_cast<T *>(memory);
  }
  ~HostArray() {
    if (first)
      ::munmap(first, bytes());
  }
  HostArray(HostArray &&other) noexcept { *this = std::move(other); }
  HostArray &operator=(HostArray &&other) noexcept {
    std::swap(first, other.first);
    std::swap(count, other.count);
    return *this;
  }

  T *data() { return first; }
  const T *data() const { return first; }
  size_t size() const { return count; }
  size_t bytes() const { return count * sizeof(T); }
  T &operator[](size_t i) { return first[i]; }
  const T &operator[](size_t i) const { return first[i]; }

private:
  T *first = nullptr;
  size_t count = 0;
};

} // namespace winnow
