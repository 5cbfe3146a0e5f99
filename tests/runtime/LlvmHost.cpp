// A host process that has an LLVM of its own, with its symbols in the global scope, and opens it
// before Winnow or after: neither may see the other (F35). Usage: llvm_host [--winnow-first]
// LLVM_LIBRARY WINNOW_LIBRARY FAKE_DRIVER [COMPILER_LIBRARY]. With the last one Winnow brings its
// own LLVM, which compiles a program. Exit: 0 when both work; 77 where a process without Winnow
// cannot open the LLVM either, which CTest shows as skipped; else one line on stderr and 1.
#include "runtime/api/winnow.h"
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr int kSkipped = 77; ///< SKIP_RETURN_CODE of the cases

int lost(const char *what, const char *why) {
  std::fprintf(stderr, "llvm_host: %s: %s\n", what, why ? why : "");
  return 1;
}

template <typename Function> Function *find(void *library, const char *name) {
  return reinterpret_cast<Function *>(dlsym(library, name));
}

/// The LLVM works: it makes a module and prints it.
bool printsAModule(void *llvm) {
  auto *create = find<void *(const char *)>(llvm, "LLVMModuleCreateWithName");
  auto *print = find<char *(void *)>(llvm, "LLVMPrintModuleToString");
  auto *freeText = find<void(char *)>(llvm, "LLVMDisposeMessage");
  auto *dispose = find<void(void *)>(llvm, "LLVMDisposeModule");
  if (!create || !print || !freeText || !dispose)
    return false;
  void *module = create("host");
  char *text = print(module);
  const bool right = std::strstr(text, "ModuleID = 'host'") != nullptr;
  freeText(text);
  dispose(module);
  return right;
}

/// The compiler library's LLVM works: it makes code of this host.
bool compilesForTheCpu(void *winnow, const char *path) {
  auto *load = find<decltype(winnow_compiler_load)>(winnow, "winnow_compiler_load");
  const winnow_compiler *compiler = nullptr;
  if (!load || load(path, &compiler) != WINNOW_OK)
    return false;
  winnow_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.method = "dense";
  spec.heads = spec.kv_heads = 2;
  spec.head_dim = 64;
  winnow_cpu_program program{};
  program.struct_size = sizeof(program);
  const winnow_sink sink = [](void *, const void *, size_t) {};
  if (compiler->cpu_load(compiler->user, &spec, &program, sink, nullptr) != WINNOW_OK)
    return false;
  compiler->cpu_free(compiler->user, program.handle);
  return true;
}

/// Winnow is there, has no LLVM itself, and makes an engine; with a compiler library it compiles.
int useWinnow(const char *path, const char *driver, const char *compiler) {
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library)
    return lost("opening Winnow", dlerror());
  auto *version = find<decltype(winnow_version)>(library, "winnow_version");
  auto *lastError = find<decltype(winnow_last_error)>(library, "winnow_last_error");
  auto *create = find<decltype(winnow_engine_create)>(library, "winnow_engine_create");
  auto *prepare = find<decltype(winnow_prepare)>(library, "winnow_prepare");
  auto *destroy = find<decltype(winnow_engine_destroy)>(library, "winnow_engine_destroy");
  if (!version || !lastError || !create || !prepare || !destroy || std::strlen(version()) == 0)
    return lost("Winnow", "it does not have its functions");
  if (dlsym(library, "LLVMModuleCreateWithName"))
    return lost("Winnow", "it brings an LLVM of its own");

  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  options.cache_dir = "";
  options.driver_path = driver;
  winnow_engine *engine = nullptr;
  if (create(&options, &engine) != WINNOW_OK)
    return lost("winnow_engine_create", lastError());
  winnow_spec spec{}; // as far as an engine without programs and without a compiler gets
  spec.struct_size = sizeof(spec);
  spec.method = "none";
  spec.heads = spec.kv_heads = 1;
  winnow_program *program = nullptr;
  if (prepare(engine, &spec, 0, &program, nullptr) != WINNOW_UNSUPPORTED)
    return lost("winnow_prepare", lastError());
  destroy(engine);
  return compiler && !compilesForTheCpu(library, compiler)
             ? lost("the compiler library", lastError())
             : 0;
}

int useLlvm(const char *path) {
  void *llvm = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  return llvm && printsAModule(llvm)
             ? 0
             : lost("the host's LLVM", llvm ? "does not print a module" : dlerror());
}

/// Whether the LLVM is on this machine: opened in a process of its own, which ends with it.
bool isInstalled(const char *path) {
  const pid_t child = fork();
  if (child == 0)
    _exit(dlopen(path, RTLD_NOW | RTLD_GLOBAL) ? 0 : 1);
  int status = 1;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

} // namespace

int main(int argc, char **argv) {
  const bool winnowFirst = argc > 1 && std::strcmp(argv[1], "--winnow-first") == 0;
  argc -= winnowFirst, argv += winnowFirst;
  if (argc < 4)
    return lost("usage", "llvm_host [--winnow-first] LLVM_LIBRARY WINNOW_LIBRARY FAKE_DRIVER "
                         "[COMPILER_LIBRARY]");
  if (!isInstalled(argv[1])) {
    lost("skipped, this machine has no such LLVM (tools/setup.sh test installs it)", argv[1]);
    return kSkipped;
  }
  auto winnow = [&] { return useWinnow(argv[2], argv[3], argc > 4 ? argv[4] : nullptr); };
  auto llvm = [&] { return useLlvm(argv[1]); };
  // Each once more when the other is there.
  return winnowFirst ? winnow() || llvm() || winnow() : llvm() || winnow() || llvm();
}
