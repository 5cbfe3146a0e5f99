// libnvrtc by dlopen; see Nvrtc.h. libnvrtc opens its builtins library by bare name at the first
// compile and has no RUNPATH, so that library is loaded first, from the same folder.
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/EmbeddedFiles.h"
#include "runtime/Environment.h"
#include "runtime/device/LibraryPath.h"
#include <algorithm>
#include <chrono>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>

namespace winnow {

using NvrtcResult = int;
using NvrtcProgram = void *;

struct Nvrtc::Functions {
  NvrtcResult (*version)(int *, int *);
  const char *(*errorString)(NvrtcResult);
  NvrtcResult (*create)(NvrtcProgram *, const char *, const char *, int, const char *const *,
                        const char *const *);
  NvrtcResult (*destroy)(NvrtcProgram *);
  NvrtcResult (*compile)(NvrtcProgram, int, const char *const *);
  NvrtcResult (*cubinSize)(NvrtcProgram, size_t *);
  NvrtcResult (*cubin)(NvrtcProgram, char *);
  NvrtcResult (*ptxSize)(NvrtcProgram, size_t *);
  NvrtcResult (*ptx)(NvrtcProgram, char *);
  NvrtcResult (*logSize)(NvrtcProgram, size_t *);
  NvrtcResult (*log)(NvrtcProgram, char *);
  NvrtcResult (*archCount)(int *);
  NvrtcResult (*archs)(int *);
};

namespace fs = std::filesystem;

static const char *const kLibraryNames[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};

/// Asks `visit` about folders until it says true; whether it did.
using VisitFolder = std::function<bool(const std::string &)>;

/// Folders of the loader: LD_LIBRARY_PATH, then those where the loader's cache (/etc/ld.so.cache)
/// knows an NVRTC. Both are read here rather than left to dlopen, so that the cache key can name
/// the library without opening 100 MB.
static bool visitLoaderFolders(const VisitFolder &visit) {
  std::istringstream path(environmentValue(EnvironmentVariable::LdLibraryPath));
  for (std::string folder; std::getline(path, folder, ':');)
    if (!folder.empty() && visit(folder))
      return true;
  std::ifstream file("/etc/ld.so.cache", std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  const std::string cache = content.str();
  for (const char *name : kLibraryNames) {
    // The cache holds absolute paths as zero-ended strings.
    std::string tail = std::string("/") + name + '\0';
    for (size_t at = cache.find(tail); at != std::string::npos; at = cache.find(tail, at + 1)) {
      size_t begin = cache.rfind('\0', at);
      if (begin != std::string::npos && cache[begin + 1] == '/' &&
          visit(cache.substr(begin + 1, at - begin - 1)))
        return true;
    }
  }
  return false;
}

/// NVIDIA's packages in a folder of Python packages.
static bool visitPythonPackages(const fs::path &packages, const VisitFolder &visit) {
  std::error_code ignored;
  for (const auto &package : fs::directory_iterator(packages / "nvidia", ignored))
    if (fs::exists(package.path() / "lib", ignored) && visit(package.path() / "lib"))
      return true;
  return false;
}

/// Python environments that may hold NVIDIA's packages.
static bool visitPythonFolders(const fs::path &root, const VisitFolder &visit) {
  std::error_code ignored;
  for (const char *lib : {"lib", "lib64"})
    for (const auto &python : fs::directory_iterator(root / lib, ignored)) {
      if (python.path().filename().string().rfind("python", 0) != 0)
        continue;
      for (const char *packages : {"site-packages", "dist-packages"})
        if (visitPythonPackages(python.path() / packages, visit))
          return true;
    }
  return false;
}

/// The folder of the program or library that this code is part of, "" where the loader does not
/// say.
static fs::path ownFolder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void *>(&visitPythonPackages), &info) == 0 || !info.dli_fname)
    return {};
  return fs::path(info.dli_fname).parent_path();
}

/// The search order for NVRTC. Folders are made up as they are asked for: a cache hit pays for this
/// search, and most machines have the library in one of the first.
static bool visitSearchFolders(const VisitFolder &visit) {
  if (visitLoaderFolders(visit))
    return true;
  for (EnvironmentVariable variable :
       {EnvironmentVariable::CudaHome, EnvironmentVariable::CudaPath})
    if (std::string root = environmentValue(variable); !root.empty() && visit(root + "/lib64"))
      return true;
  if (visit("/usr/local/cuda/lib64"))
    return true;
  if (std::string active = environmentValue(EnvironmentVariable::VirtualEnv);
      !active.empty() && visitPythonFolders(active, visit))
    return true;
  // The Python package `winnow` holds this library, and others lie beside it. An environment need
  // not be active to be used.
  if (const fs::path own = ownFolder();
      own.filename() == "winnow" && visitPythonPackages(own.parent_path(), visit))
    return true;
  // The environment that tools/setup.sh makes in the source tree: this program lies in its
  // <build folder>/bin. No other folder above it is asked, since anybody may own that.
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  if (visitPythonFolders(program.parent_path().parent_path().parent_path() / ".venv", visit))
    return true;
  return visitPythonFolders("/usr/local", visit) || visitPythonFolders("/usr", visit);
}

/// `path` as locate() gives it.
static Result<void *> openLibrary(const std::string &path) {
  std::error_code ignored;
  for (const auto &file : fs::directory_iterator(fs::path(path).parent_path(), ignored)) {
    if (file.path().filename().string().rfind("libnvrtc-builtins.so", 0) != 0 ||
        !fs::exists(file.path(), ignored))
      continue;
    Result<std::string> builtins = trustedLibrary(file.path());
    if (!builtins)
      return fail(ErrorKind::CompileFailed, builtins.error().message);
    dlopen(builtins->c_str(), RTLD_LAZY | RTLD_LOCAL);
  }
  if (void *handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL))
    return handle;
  return fail(ErrorKind::CompileFailed, path + " cannot be opened as NVRTC: " + dlerror());
}

std::vector<std::string> Nvrtc::searchFolders() {
  std::vector<std::string> folders;
  visitSearchFolders([&](const std::string &folder) {
    folders.push_back(folder);
    return false;
  });
  return folders;
}

Result<std::string> Nvrtc::locate(const std::string &path) {
  auto notFound = [](const std::string &tried) {
    return fail(ErrorKind::CompileFailed,
                "NVRTC was not found (tried " + tried +
                    "): install it with `pip install nvidia-cuda-nvrtc` or set WINNOW_NVRTC to "
                    "libnvrtc.so.13");
  };
  std::error_code ignored;
  std::string given = path.empty() ? environmentValue(EnvironmentVariable::WinnowNvrtc) : path;
  if (!given.empty() && !fs::exists(given, ignored))
    return notFound(given);
  std::string found, refused;
  auto isUsable = [&](const std::string &file) {
    Result<std::string> trusted = trustedLibrary(file);
    if (trusted)
      found = *trusted;
    else if (refused.empty())
      refused = trusted.error().message;
    return static_cast<bool>(trusted);
  };
  if (!given.empty())
    (void)isUsable(given);
  else
    visitSearchFolders([&](const std::string &folder) {
      return std::any_of(std::begin(kLibraryNames), std::end(kLibraryNames), [&](const char *name) {
        const std::string file = folder + "/" + name;
        return fs::exists(file, ignored) && isUsable(file);
      });
    });
  if (!found.empty())
    return found;
  if (!refused.empty())
    return fail(ErrorKind::CompileFailed, "no usable NVRTC: " + refused);
  return notFound(fmt::format("{}", fmt::join(searchFolders(), ", ")));
}

Result<std::string> Nvrtc::identity(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  auto read = [&](uint64_t offset, void *to, size_t size) {
    file.seekg(static_cast<std::streamoff>(offset));
    return bool(file.read(static_cast<char *>(to), static_cast<std::streamsize>(size)));
  };
  Elf64_Ehdr header;
  if (!read(0, &header, sizeof(header)) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return fail(ErrorKind::CompileFailed,
                path + " is no library: set WINNOW_NVRTC to libnvrtc.so.13");
  std::error_code ignored;
  std::string identity = std::to_string(fs::file_size(path, ignored));
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!read(header.e_phoff + i * sizeof(segment), &segment, sizeof(segment)) ||
        segment.p_type != PT_NOTE || segment.p_filesz > 4096)
      continue;
    std::string notes(segment.p_filesz, '\0');
    if (read(segment.p_offset, notes.data(), notes.size()))
      for (unsigned char byte : notes)
        identity += fmt::format("{:02x}", byte);
  }
  return identity;
}

Result<std::shared_ptr<const Nvrtc>> Nvrtc::open(const std::string &path) {
  WINNOW_TRY(std::string file, locate(path));
  auto nvrtc = std::make_shared<Nvrtc>();
  nvrtc->libraryPath = file;
  WINNOW_TRY(void *handle, openLibrary(file));
  auto functions = std::make_shared<Functions>();
  bool complete = true;
  auto bind = [&](auto &function, const char *name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    complete &= function != nullptr;
  };
  bind(functions->version, "nvrtcVersion");
  bind(functions->errorString, "nvrtcGetErrorString");
  bind(functions->create, "nvrtcCreateProgram");
  bind(functions->destroy, "nvrtcDestroyProgram");
  bind(functions->compile, "nvrtcCompileProgram");
  bind(functions->cubinSize, "nvrtcGetCUBINSize");
  bind(functions->cubin, "nvrtcGetCUBIN");
  bind(functions->ptxSize, "nvrtcGetPTXSize");
  bind(functions->ptx, "nvrtcGetPTX");
  bind(functions->logSize, "nvrtcGetProgramLogSize");
  bind(functions->log, "nvrtcGetProgramLog");
  bind(functions->archCount, "nvrtcGetNumSupportedArchs");
  bind(functions->archs, "nvrtcGetSupportedArchs");
  if (!complete || functions->version(&nvrtc->majorVersion, &nvrtc->minorVersion))
    return fail(ErrorKind::CompileFailed,
                nvrtc->libraryPath + " is no usable NVRTC: functions of version 12 are missing");
  nvrtc->functions = std::move(functions);
  return nvrtc;
}

bool Nvrtc::supports(const std::string &arch) const {
  int count = 0;
  if (functions->archCount(&count))
    return false;
  std::vector<int> archs(count);
  functions->archs(archs.data());
  size_t digits = arch.find('_') + 1;
  int wanted = static_cast<int>(std::strtol(arch.c_str() + digits, nullptr, 10));
  for (int known : archs)
    if (known == wanted)
      return true;
  return false;
}

Result<Nvrtc::Output> Nvrtc::compile(const std::string &source, const std::string &name,
                                     const std::string &arch) const {
  auto begin = std::chrono::steady_clock::now();
  std::vector<const char *> texts, names;
  std::vector<std::string> nameStorage;
  for (const EmbeddedFile &header : embeddedDeviceHeaders())
    nameStorage.push_back(std::string("winnow/") + header.name);
  for (size_t i = 0; i < nameStorage.size(); ++i) {
    texts.push_back(embeddedDeviceHeaders()[i].text.data()); // each text ends with a zero byte
    names.push_back(nameStorage[i].c_str());
  }
  NvrtcProgram program = nullptr;
  NvrtcResult result =
      functions->create(&program, source.c_str(), (name + ".cu").c_str(),
                        static_cast<int>(texts.size()), texts.data(), names.data());
  if (result)
    return fail(ErrorKind::CompileFailed,
                "NVRTC could not start: " + std::string(functions->errorString(result)));
  std::shared_ptr<void> destroy(program, [&](void *p) { functions->destroy(&p); });

  const bool virtualArch = arch.rfind("compute_", 0) == 0;
  std::string archFlag = "--gpu-architecture=" + arch;
  std::vector<const char *> options = {archFlag.c_str(), "--std=c++17", "--minimal", "--no-cache"};
  if (!virtualArch)
    options.push_back("--ptxas-options=-v");
  result = functions->compile(program, static_cast<int>(options.size()), options.data());
  Output output;
  size_t size = 0;
  if (!functions->logSize(program, &size) && size > 1) {
    output.log.resize(size);
    functions->log(program, output.log.data());
    output.log.resize(size - 1);
  }
  if (result)
    return fail(ErrorKind::CompileFailed, "NVRTC " + version() + " refused kernel " + name +
                                              " for " + arch + " (" +
                                              functions->errorString(result) + "):\n" + output.log);
  auto [sizeOf, get] = virtualArch ? std::pair(functions->ptxSize, functions->ptx)
                                   : std::pair(functions->cubinSize, functions->cubin);
  if (sizeOf(program, &size) || size == 0)
    return fail(ErrorKind::CompileFailed,
                "NVRTC gave no code for kernel " + name + " (" + arch + ")");
  output.binary.resize(size);
  get(program, output.binary.data());
  if (!virtualArch && output.binary.compare(0, 4, "\177ELF") != 0)
    return fail(ErrorKind::CompileFailed,
                "NVRTC's code for kernel " + name + " (" + arch + ") is no ELF file");
  output.milliseconds =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return output;
}

} // namespace winnow
