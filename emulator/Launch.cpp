// See Launch.h. Lines of the printed text come from the object's debug information, by
// llvm-symbolizer where the machine has one.
#include "emulator/Launch.h"
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <fmt/format.h>
#include <numeric>
#include <random>
#include <unistd.h>

struct EmulatedIndex {
  unsigned x, y, z;
};
extern "C" EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;

namespace winnow::emulator {

namespace {

/// What a command prints on its standard output.
std::string outputOf(const std::string &command) {
  std::string text;
  // A fixed program; the only word that varies is the name of a file of this process.
  FILE *pipe = ::popen(command.c_str(), "r"); // NOLINT(bugprone-command-processor)
  if (!pipe)
    return text;
  std::array<char, 4096> buffer;
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    text.append(buffer.data(), got);
  ::pclose(pipe);
  return text;
}

/// "attend.cu:123 (wait_full, pipeline.cuh:70)": the line of the printed text that led to a return
/// address, and the innermost device function.
std::string lineOf(const LoadedKernel &kernel, const void *place) {
  Dl_info info;
  if (!place || ::dladdr(place, &info) == 0)
    return "";
  const auto offset = static_cast<const char *>(place) - static_cast<const char *>(info.dli_fbase);
  const std::string text =
      outputOf(fmt::format("llvm-symbolizer-22 --obj={} --inlines --functions=short "
                           "0x{:x} 2>/dev/null",
                           kernel.file, offset - 1));
  std::string function, innermost, line;
  size_t begin = 0;
  for (int number = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty())
      break;
    if (number % 2 == 0) {
      function = part.substr(0, part.find('<'));
      continue;
    }
    part = part.substr(0, part.rfind(':')); // without the column
    part = part.substr(part.rfind('/') + 1);
    if (part.rfind("emulated", 0) != 0 && innermost.empty())
      innermost = fmt::format("{}, {}", function, part);
    if (part.find(".cu:") != std::string::npos)
      line = part;
  }
  if (line.empty())
    return innermost;
  return innermost.find(line) != std::string::npos ? line : fmt::format("{} ({})", line, innermost);
}

} // namespace

/// Kernels find the emulator's functions by name: it joins the names that all objects share,
/// however it was opened itself.
static void offerFunctions() {
  Dl_info info;
  if (::dladdr(reinterpret_cast<void *>(&offerFunctions), &info) != 0)
    ::dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

std::string loadObject(const std::string &bytes, LoadedKernel &kernel) {
  offerFunctions();
  // A file of this process only: gone with it, and readable by the symbolizer until then.
  const char *folder = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  std::string path = fmt::format("{}/winnow-emulated.XXXXXX", folder);
  const int file = ::mkstemp(path.data());
  if (file < 0)
    return fmt::format("cannot make a file in {}: {}", folder, std::strerror(errno));
  const bool whole =
      ::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  ::close(file);
  if (whole)
    kernel.object = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  kernel.file = path;
  std::string wrong;
  if (!kernel.object) {
    const char *why = ::dlerror();
    wrong = why ? why : "the object cannot be written";
    ::unlink(path.c_str());
  }
  return wrong;
}

/// Finds the object's segments that nobody can write, by its program headers.
static void findConstants(LoadedKernel &kernel) {
  Dl_info info;
  if (::dladdr(kernel.entry, &info) == 0)
    return;
  const auto *base = static_cast<const char *>(info.dli_fbase);
  const auto *header = reinterpret_cast<const Elf64_Ehdr *>(base);
  const auto *segments = reinterpret_cast<const Elf64_Phdr *>(base + header->e_phoff);
  for (const Elf64_Phdr *one = segments; one < segments + header->e_phnum; ++one) {
    if (one->p_type != PT_LOAD || (one->p_flags & PF_W) != 0)
      continue;
    const char *begin = base + one->p_vaddr;
    kernel.constants = kernel.constants ? std::min(kernel.constants, begin) : begin;
    kernel.constantsEnd = std::max(kernel.constantsEnd, begin + one->p_memsz);
  }
}

std::string findKernel(LoadedKernel &kernel, const std::string &name) {
  kernel.name = name;
  kernel.entry = ::dlsym(kernel.object, name.c_str());
  kernel.shared = static_cast<unsigned char *>(::dlsym(kernel.object, "shared"));
  if (!kernel.entry || !kernel.shared)
    return "the object has no kernel " + name;
  findConstants(kernel);
  return "";
}

void unload(LoadedKernel &kernel) {
  if (kernel.object)
    ::dlclose(kernel.object);
  ::unlink(kernel.file.c_str());
}

std::string launch(const LoadedKernel &kernel, const LaunchShape &shape, const Params &params,
                   uint64_t seed) {
  gridDim = {shape.gridX, shape.gridY, 1};
  blockDim = {static_cast<unsigned>(shape.threads), 1, 1};
  setConstants(kernel.constants, kernel.constantsEnd);
  const unsigned clustersX = shape.gridX / shape.clusterX, clustersY = shape.gridY / shape.clusterY;
  std::vector<uint64_t> order(static_cast<size_t>(clustersX) * clustersY);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  for (uint64_t index : order) {
    Cluster cluster(shape, static_cast<unsigned>(index % clustersX) * shape.clusterX,
                    static_cast<unsigned>(index / clustersX) * shape.clusterY, kernel.shared,
                    reinterpret_cast<Block::Kernel>(kernel.entry), params,
                    seed * 0x9e3779b97f4a7c15 + index);
    if (auto fault = cluster.run()) {
      std::string where;
      for (const void *place : fault->places)
        if (std::string line = lineOf(kernel, place); !line.empty())
          where += (where.empty() ? " at " : " and ") + line;
      return fmt::format("kernel {}, block {} {}: {}{}", kernel.name, blockIdx.x, blockIdx.y,
                         fault->what, where);
    }
  }
  return "";
}

} // namespace winnow::emulator
