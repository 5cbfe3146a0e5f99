// See DumpStages.h.
#include "compiler/driver/DumpStages.h"
#include "runtime/device/Dump.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"

namespace winnow {

/// The code of a cubin as text, by CUDA's nvdisasm where the machine has it.
static std::string disassemble(const std::string &folder, const std::string &cubin) {
  auto tool = llvm::sys::findProgramByName("nvdisasm");
  if (!tool)
    return "";
  const std::string input = folder + "/sass.cubin", output = folder + "/sass.txt";
  dumpFile(folder, "sass.cubin", cubin);
  const std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(""), llvm::StringRef(output),
                                                      llvm::StringRef("")};
  const int code = llvm::sys::ExecuteAndWait(*tool, {*tool, input}, std::nullopt, redirects, 60);
  std::string text;
  if (auto read = llvm::MemoryBuffer::getFile(output); code == 0 && read)
    text = (*read)->getBuffer().str();
  for (const std::string &path : {input, output})
    if (llvm::sys::fs::remove(path))
      return ""; // somebody else's folder by now
  return text;
}

std::string virtualArch(const std::string &arch) {
  return "compute_" + arch.substr(arch.find('_') + 1);
}

void dumpStages(const ProgramImage &image, const std::vector<StageText> &stages,
                const Nvrtc *nvrtc) {
  const std::string folder = dumpFolder(image);
  if (folder.empty())
    return;
  dumpImage(image);
  for (const StageText &stage : stages)
    if (stage.stage != "cuda")
      dumpFile(folder, (stage.kernel.empty() ? "" : stage.kernel + ".") + stage.stage + ".mlir",
               stage.text);
  for (const Kernel &kernel : image.kernels) {
    if (nvrtc)
      if (auto ptx = nvrtc->compile(kernel.source, kernel.name, virtualArch(image.arch)))
        dumpFile(folder, kernel.name + ".ptx", ptx->binary);
    if (std::string sass = disassemble(folder, kernel.cubin); !sass.empty())
      dumpFile(folder, kernel.name + ".sass", sass);
  }
}

} // namespace winnow
