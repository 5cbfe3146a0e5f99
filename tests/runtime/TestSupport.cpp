// See TestSupport.h. Children leave by _exit, so that they run no exit handler of the test program.
#include "TestSupport.h"
#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <fstream>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

namespace winnow::test {

TempDir::TempDir() {
  char name[] = "/tmp/winnow-test-XXXXXX";
  if (!mkdtemp(name) || chmod(name, 0755) != 0)
    std::abort();
  path = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

pid_t startChild(const std::function<int()> &body) {
  std::fflush(nullptr);
  pid_t child = fork();
  if (child != 0)
    return child;
  int code = 255;
  try {
    code = body();
  } catch (...) {
    code = 255; // the parent reads it as "died"
  }
  std::fflush(nullptr);
  _exit(code);
}

int waitFor(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

bool exitedWith(int waitStatus, int code) {
  return WIFEXITED(waitStatus) && WEXITSTATUS(waitStatus) == code;
}

int runUnprivileged(const std::function<int()> &body) {
  return runChild([&] {
    constexpr uid_t kNobody = 65534;
    if (geteuid() == 0 && (setgid(kNobody) != 0 || setuid(kNobody) != 0))
      return 254;
    return body();
  });
}

std::string fakeCubin(const std::string &kernel, size_t filler) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  std::string body = "kernel:" + kernel + std::string(1, '\0');
  for (size_t i = 0; i < filler; ++i)
    body += static_cast<char>(i * 131 >> 3);
  header.e_shoff =
      sizeof(header) + body.size() - sizeof(Elf64_Shdr); // the last bytes play the section table
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 1;
  return std::string(reinterpret_cast<const char *>(&header), sizeof(header)) + body;
}

ProgramImage sampleImage(const std::string &salt) {
  ProgramImage image;
  image.method = "sample";
  image.key = sha256Hex("sample" + salt);
  image.arch = "sm_80";
  image.spec.valueDim = 64;
  image.spec.scale = image.spec.softmaxScale();
  image.spec.params = {{"window", "32"}, {"stride", "16"}};
  image.defaults = {{"window", "32"}, {"stride", "16"}, {"local", "4"}};
  image.config.attendWarps = 8, image.config.attendProducers = 1, image.config.attendStages = 3;
  image.config.scoreTokens = 16, image.config.scoreChunkMiB = 1;
  image.selectHeads = 2;
  image.scoreStride = "ceil_div(max_k, 64)";
  image.chunkTokens = "1048576 / max(1, score_stride * 8)";
  image.buffers = {{"k1", "total_k * 32"}, {"scores", "chunk_tokens * score_stride * 8"}};
  image.tensorMaps = {{"k", {"128", "2", "total_k"}, {256, 512}, {64, 1, 64}}};
  auto add = [&](const char *step, const char *when, const char *x, const char *y, int shared,
                 bool perChunk) {
    Kernel kernel;
    kernel.name = kernel.step = step;
    kernel.when = when;
    kernel.gridX = x;
    kernel.gridY = y;
    kernel.blockThreads = 128;
    kernel.sharedBytes = shared;
    kernel.perChunk = perChunk;
    kernel.registers = 96;
    kernel.spillBytes = 8;
    kernel.staticSharedBytes = 16;
    kernel.compileMs = 123.5;
    kernel.cubin = fakeCubin(step);
    kernel.source = std::string("// source of ") + step + salt;
    image.kernels.push_back(kernel);
  };
  add("summarize", "max_k >= 32", "ceil_div(total_k, 16)", "2", 4096, false);
  add("score", "1", "ceil_div(token_count, 16)", "2", 65536, true);
  add("top_k", "1", "ceil_div(token_count, 4)", "2", 0, true);
  add("attend", "1", "ceil_div(token_count, 8)", "2", 98304, false);
  image.kernels[3].facts.warps = 8;
  image.kernels[3].facts.stages = 3;
  image.mlirMs = 42.25;
  return image;
}

bool sameImage(const ProgramImage &a, const ProgramImage &b) {
  // The stored form is deterministic and holds every field (ImageFormatTest proves it field by
  // field).
  Result<std::string> x = serializeImage(a), y = serializeImage(b);
  return x && y && *x == *y;
}

CacheOptions cacheAt(const std::string &directory, std::vector<std::string> *warnings) {
  CacheOptions options;
  options.directory = directory;
  options.warn = [warnings](const std::string &message) {
    if (warnings)
      warnings->push_back(message);
  };
  return options;
}

std::vector<std::string> listDirectory(const std::string &path) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto &entry : std::filesystem::directory_iterator(path, ignored))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> listCache(const std::string &path) {
  std::vector<std::string> names = listDirectory(path);
  names.erase(std::remove(names.begin(), names.end(), ".lock"), names.end());
  return names;
}

void writeBytes(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string readBytes(const std::string &path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

} // namespace winnow::test
