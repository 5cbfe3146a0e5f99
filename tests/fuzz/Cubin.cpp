// What is read from a cubin and from ptxas's log. The input: the kernel's name, a zero byte, the
// file; the log is the whole input.
#include "compiler/cuda/CubinInfo.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view elf = textOf(data, size), name = takePart(elf, '\0');
  if (readCubinInfo(elf, std::string(name)))
    countAccepted();
  require(spillBytes(std::string(textOf(data, size))) >= 0, "spills are a number of bytes");
  return 0;
}
