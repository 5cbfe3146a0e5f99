// What the harnesses share. A harness is one LLVMFuzzerTestOneInput: it feeds the input to one
// parser, then goes on with what was accepted (prints it, reads it again, evaluates it), and stops
// the process where a promise of the parser's header does not hold. The sanitizers watch the rest.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

namespace winnow::fuzz {

/// A promise that the input broke; libFuzzer keeps the input.
inline void require(bool holds, const char *promise) {
  if (holds)
    return;
  std::fprintf(stderr, "fuzz: this does not hold: %s\n", promise);
  std::abort();
}

/// Counts an input that its parser accepts. The number is printed at the end, so that run.py
/// notices seeds that no parser accepts any more.
inline void countAccepted() {
  static int64_t count = 0;
  if (count++ == 0)
    std::atexit([] {
      std::fprintf(stderr, "fuzz: %lld inputs accepted\n", static_cast<long long>(count));
    });
}

inline std::string_view textOf(const uint8_t *data, size_t size) {
  return {reinterpret_cast<const char *>(data), size};
}

/// The input cut at its first `separator`: what lies before it is returned, `rest` keeps the other
/// part. Without one, everything is returned.
inline std::string_view takePart(std::string_view &rest, char separator) {
  std::string_view part = rest.substr(0, rest.find(separator));
  rest.remove_prefix(part.size() == rest.size() ? part.size() : part.size() + 1);
  return part;
}

/// A regular file without a name, for parsers that open a path.
class MemoryFile {
public:
  explicit MemoryFile(std::string_view bytes) : file(::memfd_create("fuzz", MFD_CLOEXEC)) {
    require(file >= 0, "a file in memory can be made");
    require(::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
            "a file in memory can be written");
  }
  ~MemoryFile() { ::close(file); }
  MemoryFile(const MemoryFile &) = delete;
  MemoryFile &operator=(const MemoryFile &) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(file); }

private:
  int file;
};

} // namespace winnow::fuzz
