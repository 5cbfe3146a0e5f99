// Method texts: parsed, specialised, fused, lowered to CUDA text; and read as the fp64 reference
// reads them. The input: a spec's text, a zero byte, the method.
#include "compiler/driver/Compile.h"
#include "reference/methods/MethodAxes.h"
#include "runtime/program/ImageFormat.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text = textOf(data, size), words = takePart(text, '\0');
  Result<Spec> spec = Spec::parse(std::string(words));
  if (!spec)
    return 0;
  MemoryFile file(text);
  CompileRequest request;
  request.method = file.path();
  request.spec = *spec;
  (void)parameterDefaults(request.method);
  (void)axesOfText(std::string(text), "fuzz", request.spec);
  request.arch = size % 2 ? "sm_80" : "sm_90a"; // both would cost half of the executions
  auto lowered = lowerProgram(request);
  if (!lowered)
    return 0;
  countAccepted();
  ProgramImage &image = lowered->first;
  for (Kernel &kernel : image.kernels) // what NVRTC would give
    kernel.cubin = ".version 8.0";
  require(checkImage(image).has_value(), "what was lowered can be launched");
  return 0;
}
