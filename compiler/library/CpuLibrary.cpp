// A launch of the C API, or one of gradients, as a call of CpuProgram. On entry libwinnow.so has
// checked the arguments, as for a GPU; see winnow_launch_args and winnow_backward_args for what
// they are.
#include "compiler/library/CpuLibrary.h"
#if WINNOW_CPU_TARGET
#include "compiler/cpu/CpuProgram.h"
#include "compiler/driver/Compile.h"
#include "compiler/driver/EmbeddedFiles.h"
#include "compiler/library/Answer.h"
#include "runtime/api/LaunchStruct.h"
#include "runtime/api/SpecStruct.h"
#include "runtime/cache/Digest.h"
#include <dlfcn.h>

namespace winnow {
namespace {

/// The code of a region may call the C library's mathematics, which the JIT looks for in the global
/// scope. A host that is plain C need not have it there.
void provideMathematics() {
  static void *const library = dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL);
  (void)library;
}

int load(void *, const winnow_spec *request, winnow_cpu_program *program, winnow_sink sink,
         void *context) {
  return answer(sink, context, [&]() -> Result<std::string> {
    provideMathematics();
    WINNOW_TRY(const ProgramRequest own, toRequest(request));
    WINNOW_TRY(const MethodInfo method, loadMethod(own.method));
    WINNOW_TRY(std::unique_ptr<CpuProgram> made,
               CpuProgram::compile(method.text, own.spec, method.file));
    const std::vector<SummaryShape> summaries = made->summaries();
    program->select_heads = made->selectHeads();
    program->rows_count = static_cast<int32_t>(summaries.size());
    for (size_t i = 0; i < summaries.size(); ++i) {
      program->rows_window[i] = summaries[i].window;
      program->rows_stride[i] = summaries[i].stride;
    }
    program->dense_length = made->denseFormula().c_str();
    std::string key = keyFrom({{"generator", generatorDigest()},
                               {"method", sha256Hex(method.text)},
                               {"spec", own.spec.text()},
                               {"arch", "cpu"}});
    program->handle = made.release();
    return key;
  });
}

CpuTensors tensorsOf(const LaunchArgs &args) {
  CpuTensors tensors{};
  tensors.q = static_cast<const uint16_t *>(args.q);
  tensors.k = args.k;
  tensors.v = args.v;
  tensors.kScale = args.kScale;
  tensors.vScale = args.vScale;
  tensors.ids = args.ids;
  tensors.cuQ = args.cuQ;
  tensors.cuK = args.cuK;
  tensors.batch = args.shape.batch;
  tensors.layout = args.layout;
  tensors.maxK = args.shape.maxK;
  tensors.idsGiven = args.phase == Phase::Attend;
  tensors.appendOnly = args.phase == Phase::Append;
  if (args.phase == Phase::All || args.phase == Phase::Attend) {
    tensors.out = static_cast<uint16_t *>(args.out);
    tensors.lse = args.lse;
  }
  if (args.phase == Phase::All || args.phase == Phase::Append) // a selection alone appends nothing
    for (int i = 0; i < kMostRows; ++i)
      tensors.rows[i] = static_cast<uint16_t *>(args.rows[i]);
  return tensors;
}

int launch(void *, void *handle, const winnow_launch_args *args, winnow_sink sink, void *context) {
  return complain(sink, context, [&]() -> Status {
    WINNOW_TRY(const LaunchCall call, toLaunchCall(args));
    return static_cast<const CpuProgram *>(handle)->run(tensorsOf(call.args), /*threads=*/0);
  });
}

int launchBackward(void *, void *handle, const winnow_backward_args *given, winnow_sink sink,
                   void *context) {
  return complain(sink, context, [&]() -> Status {
    WINNOW_TRY(const LaunchCall call, toLaunchCall(given));
    const LaunchArgs &args = call.args;
    CpuTensors tensors = tensorsOf(args);
    tensors.out = static_cast<uint16_t *>(args.out);
    tensors.lse = args.lse;
    return static_cast<const CpuProgram *>(handle)->backward(
        tensors,
        {static_cast<const uint16_t *>(args.dout), static_cast<uint16_t *>(args.dq),
         static_cast<uint16_t *>(args.dk), static_cast<uint16_t *>(args.dv)},
        /*threads=*/0);
  });
}

void release(void *, void *handle) { delete static_cast<CpuProgram *>(handle); }

} // namespace

void addCpuFunctions(winnow_compiler &compiler) {
  compiler.cpu_load = load;
  compiler.cpu_launch = launch;
  compiler.cpu_free = release;
  compiler.cpu_launch_backward = launchBackward;
}

} // namespace winnow
#else
void winnow::addCpuFunctions(winnow_compiler &) {}
#endif
