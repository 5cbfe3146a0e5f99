// See EmulatedCode.h. The device headers are read once per process, into a precompiled header; each
// kernel is compiled in a folder of its own.
#include "compiler/cuda/EmulatedCode.h"
#include "compiler/driver/EmbeddedFiles.h"
#include "runtime/Environment.h"
#include "runtime/cache/Digest.h"
#include "runtime/cache/Files.h"
#include "runtime/device/Target.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include <chrono>
#include <cstdio>
#include <deque>
#include <mutex>
#include <unistd.h>
#include <unordered_map>

namespace winnow {

namespace {

/// The compiler that the project itself is built with, or any other clang.
std::string clang() {
  for (const char *name : {"clang++-22", "clang++"})
    if (auto found = llvm::sys::findProgramByName(name))
      return *found;
  return "";
}

bool writeFile(const llvm::Twine &path, llvm::StringRef text) {
  std::error_code error;
  llvm::raw_fd_ostream file(path.str(), error);
  file << text;
  file.close();
  return !error && !file.has_error();
}

/// Writes the device headers to `folder`/winnow; the names of the arch headers stand for the
/// emulated one there.
bool writeHeaders(const std::string &folder) {
  bool whole = !llvm::sys::fs::create_directory(folder + "/winnow");
  auto put = [&](llvm::StringRef name, llvm::StringRef text) {
    whole = whole && writeFile(folder + "/winnow/" + name, text);
  };
  for (const EmbeddedFile &header : embeddedDeviceHeaders()) {
    const llvm::StringRef name = header.name;
    const llvm::StringRef text(header.text.data(), header.text.size());
    if (name == "emulated_scalar.cuh")
      put("scalar.cuh", text);
    else if (name != "scalar.cuh")
      put(name, text);
  }
  for (const Target &target : targets())
    put(target.leafHeader, "#pragma once\n#include \"winnow/emulated.cuh\"\n");
  return whole;
}

/// Runs a program; its words on failure.
Result<std::string> execute(llvm::ArrayRef<std::string> command, const std::string &logFile) {
  std::vector<llvm::StringRef> words(command.begin(), command.end());
  std::string error;
  const std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(""), llvm::StringRef(logFile),
                                                      llvm::StringRef(logFile)};
  const int code = llvm::sys::ExecuteAndWait(command[0], words, std::nullopt, redirects,
                                             /*SecondsToWait=*/120, 0, &error);
  std::string log;
  if (auto text = llvm::MemoryBuffer::getFile(logFile))
    log = (*text)->getBuffer().str();
  if (code != 0)
    return fail(ErrorKind::CompileFailed, command[0] + " failed: " + (log.empty() ? error : log));
  return log;
}

} // namespace

Result<std::string> emulatedCompiler() {
  const std::string path = clang();
  if (path.empty())
    return fail(ErrorKind::Unsupported, "the emulator needs clang++ on the PATH: install clang-22");
  return Nvrtc::identity(path);
}

namespace {

/// A folder among the system's temporary files.
Result<std::string> makeFolder(llvm::StringRef prefix) {
  llvm::SmallString<128> folder;
  if (llvm::sys::fs::createUniqueDirectory(prefix, folder))
    return fail(ErrorKind::CompileFailed,
                "cannot make a folder among the system's temporary files");
  return folder.str().str();
}

/// What headers and kernels are compiled with: a precompiled header wants the same flags.
std::vector<std::string> compileCommand(const std::string &compiler, llvm::StringRef language) {
  return {compiler,
          "-x",
          language.str(),
          "-std=c++17",
          "-O0",
          "-g1",
          "-fPIC",
          "-w",
          "-fno-exceptions",
          "-fno-strict-aliasing",
          "-ffp-contract=off",
          "-fsanitize=thread",
          "-mllvm",
          "-tsan-instrument-func-entry-exit=0"};
}

/// What is the same for all kernels of a process: the device headers, as the compiler has read
/// them, in a folder that is kept until the process ends, and how to link. Two starts of clang's
/// driver less for each kernel.
class Toolchain {
public:
  explicit Toolchain(std::string path)
      : compiler(std::move(path)), built(build()), owner(getpid()) {}
  Toolchain(const Toolchain &) = delete;
  Toolchain &operator=(const Toolchain &) = delete;
  ~Toolchain() {
    const bool isOwn = !folder.empty() && owner == getpid(); // a fork of the process has it, too
    if (isOwn && llvm::sys::fs::remove_directories(folder))
      std::fprintf(stderr, "winnow: the temporary folder %s stays\n", folder.c_str());
  }
  /// Makes the shared object `to` of a kernel's text, beside it. The compiler's words.
  Result<std::string> compile(const std::string &file, const std::string &to) const {
    WINNOW_CHECK(built);
    const std::string object = to + ".o", log = to + ".log";
    std::vector<std::string> command = compileCommand(compiler, "c++");
    command.insert(command.end(),
                   {"-I" + folder, "-include-pch", headers(), "-c", file, "-o", object});
    WINNOW_TRY(std::string words, execute(command, log));
    // The sanitizer's own run time stays away: the emulator is in its place.
    WINNOW_TRY(
        std::string more,
        execute({linker, "-shared", "-Bsymbolic", object, "-o", to, compilerLibrary, "-lm"}, log));
    return words + more;
  }

private:
  std::string headers() const { return folder + "/headers.pch"; }
  Result<std::string> ask(const std::string &flag) const {
    WINNOW_TRY(std::string answer, execute({compiler, flag}, folder + "/log"));
    return llvm::StringRef(answer).trim().str();
  }
  Status build() {
    WINNOW_TRY(folder, makeFolder("winnow-headers"));
    const std::string all = folder + "/headers.h";
    if (!writeHeaders(folder) || !writeFile(all, "#include \"winnow/emulated.cuh\"\n"))
      return fail(ErrorKind::CompileFailed, "cannot write to " + folder);
    std::vector<std::string> command = compileCommand(compiler, "c++-header");
    command.insert(command.end(), {"-I" + folder, all, "-o", headers()});
    if (auto made = execute(command, folder + "/log"); !made)
      return tl::unexpected<Error>(made.error());
    WINNOW_TRY(linker, ask("-print-prog-name=ld"));
    WINNOW_TRY(compilerLibrary, ask("-print-libgcc-file-name"));
    return {};
  }

  std::string compiler, folder, linker, compilerLibrary;
  Status built;
  pid_t owner;
};

/// The code of the texts that were compiled last: programs of one spec share many of their kernels.
class CompiledTexts {
public:
  std::optional<std::string> find(const std::string &text) {
    std::lock_guard<std::mutex> lock(mutex);
    auto found = code.find(text);
    return found == code.end() ? std::nullopt : std::optional(found->second);
  }
  void add(const std::string &text, const std::string &binary) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!code.emplace(text, binary).second)
      return;
    order.push_back(text);
    if (order.size() > kMost) {
      code.erase(order.front());
      order.pop_front();
    }
  }

private:
  static constexpr size_t kMost = 256; ///< some 50 KB each
  std::mutex mutex;
  std::unordered_map<std::string, std::string> code; ///< by name and text
  std::deque<std::string> order;
};

/// $WINNOW_EMULATED_CODE: the same for processes that follow each other, as CTest's cases do: a
/// file for each text, named by the digest of all that its code depends on, which begins with the
/// digest of that name and the code. What cannot be read or written is compiled anew: nothing fails
/// here.
class CodeFolder {
public:
  /// `compiler`: its path.
  explicit CodeFolder(const std::string &compiler)
      : folder(environmentValue(EnvironmentVariable::WinnowEmulatedCode)) {
    if (folder.empty())
      return;
    Result<std::string> identity = Nvrtc::identity(compiler);
    struct stat info{};
    if (!identity || makeDirectories(folder) != 0 || ::stat(folder.c_str(), &info) != 0 ||
        !isOwn(info, /*orRoot=*/false)) {
      folder.clear();
      return;
    }
    ingredients = {{"headers", deviceHeadersDigest()}, {"clang", *identity}};
    for (const std::string &flag : compileCommand(compiler, "c++"))
      ingredients["flags"] += flag + "\n";
    removeOld();
  }
  std::optional<std::string> find(const std::string &text) const {
    FileContent content;
    const std::string name = nameOf(text);
    if (folder.empty() || readFile(systemFiles(), folder + "/" + name, /*followLinks=*/false,
                                   kMostBytes, content) != 0)
      return std::nullopt;
    const std::string_view bytes = content.bytes;
    if (!isOwn(content.info, /*orRoot=*/false) || bytes.size() <= kDigestDigits)
      return std::nullopt;
    std::string binary(bytes.substr(kDigestDigits));
    if (bytes.substr(0, kDigestDigits) != sha256Hex(name + binary))
      return std::nullopt;
    return binary;
  }
  void add(const std::string &text, const std::string &binary) const {
    const std::string name = nameOf(text);
    if (!folder.empty())
      (void)publish(systemFiles(), folder + "/" + name, sha256Hex(name + binary) + binary, 0600);
  }

private:
  static constexpr size_t kDigestDigits = 64;
  static constexpr uint64_t kMostBytes = uint64_t(64) << 20;
  static constexpr const char *kSuffix = ".emulated";
  static constexpr std::chrono::hours kOld{7 * 24};

  std::string nameOf(const std::string &text) const {
    KeyIngredients all = ingredients;
    all["text"] = text;
    return keyFrom(all) + kSuffix;
  }
  /// What nobody would find any more, or would have to compile once a week.
  void removeOld() const {
    std::error_code error;
    for (llvm::sys::fs::directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
      llvm::sys::fs::file_status status;
      const llvm::StringRef name = llvm::sys::path::filename(it->path());
      if (name.ends_with(kSuffix) && !llvm::sys::fs::status(it->path(), status, /*follow=*/false) &&
          status.type() == llvm::sys::fs::file_type::regular_file &&
          std::chrono::system_clock::now() - status.getLastModificationTime() > kOld)
        error = llvm::sys::fs::remove(it->path()); // another process may have been first
    }
  }

  std::string folder; ///< empty: nothing is kept
  KeyIngredients ingredients;
};

CompiledTexts &compiledTexts() {
  static auto &texts = *new CompiledTexts; // never destroyed: threads may still compile at exit
  return texts;
}

} // namespace

Result<Nvrtc::Output> compileForEmulator(const std::string &source, const std::string &name) {
  // The names of the arch headers stand for one header here, so kernels that differ in them alone
  // are the same code.
  std::string text = name + "\n" + source;
  for (const Target &target : targets()) {
    const std::string header = std::string("winnow/") + target.leafHeader;
    if (const size_t at = text.find(header); at != std::string::npos)
      text.replace(at, header.size(), "winnow/emulated.cuh");
  }
  static const auto &kept = *new CodeFolder(clang()); // never destroyed: see compiledTexts
  std::optional<std::string> binary = compiledTexts().find(text);
  if (!binary && (binary = kept.find(text)))
    compiledTexts().add(text, *binary);
  if (binary) {
    Nvrtc::Output output;
    output.binary = std::move(*binary);
    return output;
  }
  auto begin = std::chrono::steady_clock::now();
  static const auto &toolchain = *new Toolchain(clang()); // never destroyed, as above
  WINNOW_TRY(const std::string folder, makeFolder("winnow-kernel"));
  const std::string file = folder + "/" + name + ".cu", shared = folder + "/kernel.so";
  Nvrtc::Output output;
  Result<std::string> log = std::string();
  if (writeFile(file, source))
    log = toolchain.compile(file, shared);
  else
    log = fail(ErrorKind::CompileFailed, "cannot write to " + folder);
  if (log) {
    if (auto bytes = llvm::MemoryBuffer::getFile(shared, /*IsText=*/false,
                                                 /*RequiresNullTerminator=*/false))
      output.binary = (*bytes)->getBuffer().str();
    compiledTexts().add(text, output.binary);
    kept.add(text, output.binary);
    output.log = *log;
  }
  if (llvm::sys::fs::remove_directories(folder))
    output.log += "the temporary folder " + folder + " stays\n";
  if (!log)
    return tl::unexpected<Error>(log.error());
  output.milliseconds =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return output;
}

} // namespace winnow
