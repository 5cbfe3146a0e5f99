// Lowers the programs of the compile matrix.
#include "tests/compiler/MatrixPrograms.h"
#include "runtime/program/Tunables.h"
#include "tests/compile_matrix/MatrixRows.h"
#include <set>

namespace winnow {
namespace {

/// Tunables that only make sense together.
constexpr const char *kPairsOfTunables[] = {"attend_form=2 attend_rows=32",
                                            "score_form=2 score_poly=1"};

class Matrix {
public:
  std::vector<MatrixProgram> programs;

  void addArch(const std::string &arch) {
    for (const MethodInfo &method : builtinMethods()) {
      const std::map<std::string, std::string> declared = *parameterDefaults(method.name);
      for (const MatrixRow &row : matrixRows()) {
        Spec spec = specOf(row);
        // Another method's parameters are not this one's.
        for (const auto &[param, value] : specOf(row).params)
          if (declared.count(param) == 0)
            spec.params.erase(param);
        if (known.insert(arch + method.name + spec.text()).second)
          add(arch, method.name, spec, {});
      }
    }
    // The first rows of two methods: scores as keys and scores in fp32.
    for (const char *method : {"infllm_v2", "nsa_select"})
      for (const MatrixRow &row : matrixRows())
        if (row.method == std::string(method)) {
          addTuned(arch, method, specOf(row));
          break;
        }
  }

  /// Keys of fp8, of paged programs: refused where the target cannot convert them.
  void addFp8(const std::string &arch) {
    for (const MethodInfo &method : builtinMethods()) {
      Spec spec;
      spec.paged = true;
      spec.kvDtype = KvDtype::Fp8E4m3;
      add(arch, method.name, spec, {});
    }
    Spec wide;
    wide.paged = true;
    wide.kvDtype = KvDtype::Fp8E4m3;
    wide.dtype = Dtype::FP16;
    wide.heads = 8;
    wide.headDim = 256;
    wide.valueDim = 64;
    add(arch, "infllm_v2", wide, {});
  }

private:
  const MatrixProgram &add(const std::string &arch, const std::string &method, const Spec &spec,
                           const Config &config) {
    MatrixProgram &program = programs.emplace_back();
    program.request.arch = arch;
    program.request.method = method;
    program.request.spec = spec;
    program.request.config = config;
    auto lowered = lowerProgram(program.request);
    if (lowered)
      program.image = std::move(lowered->first);
    else
      program.refusal = lowered.error().message;
    return program;
  }

  /// Of every tunable that numbers ways each way but the default's, of the others the first value
  /// that differs from the default and can be built.
  void addTuned(const std::string &arch, const std::string &method, const Spec &spec) {
    auto specOf = [&](const Tunable &tunable) {
      Spec own = spec;
      own.paged = std::string_view(tunable.phase) == kDecodePhase;
      own.backward = std::string_view(tunable.phase) == kBackwardPhase;
      return own;
    };
    for (const Tunable &tunable : tunables()) {
      CompileRequest plain;
      plain.arch = arch, plain.method = method, plain.spec = specOf(tunable);
      const Config chosen = lowerProgram(plain)->first.config;
      for (int value : tunable.values) {
        Config config;
        tunable.set(config, value);
        if (value == tunable.get(chosen))
          continue;
        if (add(arch, method, specOf(tunable), config).refusal.empty() && tunable.words.empty())
          break;
      }
    }
    for (const char *text : kPairsOfTunables)
      add(arch, method, spec, *Config::parse(text));
  }

  std::set<std::string> known;
};

} // namespace

std::string MatrixProgram::title() const {
  std::string spec = request.spec.text();
  if (request.spec.scale == 0) { // the default follows from head_dim
    const size_t begin = spec.find(" scale=");
    spec.erase(begin, spec.find(' ', begin + 1) - begin);
  }
  std::string title = request.arch + " " + request.method + " " + spec;
  for (const Tunable &tunable : tunables())
    if (const int value = tunable.get(request.config); value != 0)
      title += std::string(" ") + tunable.name + "=" + std::to_string(value);
  return title;
}

// One of each level and size of shared memory; the other rows of the table print one of these
// (TargetTextTest.cpp).
constexpr const char *kArchs[] = {"sm_80", "sm_89", "sm_90a"};

const std::vector<MatrixProgram> &matrixPrograms() {
  static const auto &all = *new std::vector<MatrixProgram>([] {
    Matrix matrix;
    for (const char *arch : kArchs)
      matrix.addArch(arch);
    return std::move(matrix.programs);
  }());
  return all;
}

std::vector<MatrixProgram> fp8Programs() {
  Matrix matrix;
  for (const char *arch : kArchs)
    matrix.addFp8(arch);
  return std::move(matrix.programs);
}

} // namespace winnow
