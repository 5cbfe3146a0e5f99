// Parses the flags that name a program into a CompileRequest.
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/io/Flags.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {
namespace {

/// "--kv-heads".
std::string flagOf(const SpecField &field) {
  std::string name = field.name;
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name;
}

} // namespace

void ProgramFlags::addTo(CLI::App &command, bool methodRequired, const char *name,
                         const char *meaning) {
  command.add_option(name, method, meaning)->required(methodRequired);
  const std::pair<int Spec::*, const char *> meanings[] = {
      {&Spec::heads, "Query heads"},
      {&Spec::kvHeads, "Key/value heads; heads / kv-heads is the group size"},
      {&Spec::headDim, "Elements of one query or key row"},
      {&Spec::valueDim, "Elements of one value or output row; 0 stands for head-dim"},
      {&Spec::block, "Tokens of one selectable key block"},
      {&Spec::topk, "Blocks selected per token, forced ones included"}};
  for (const SpecField &field : specFields())
    for (auto [member, text] : meanings)
      if (member == field.member)
        command.add_option(flagOf(field), spec.*member, text)
            ->capture_default_str()
            ->check(between(field.least, field.most))
            ->group(kSpecGroup);
  command.add_option("--dtype", dtype, "bf16 or fp16")->capture_default_str()->group(kSpecGroup);
  command.add_option("--scale", spec.scale, "Softmax scale; 0 stands for head-dim^-0.5")
      ->capture_default_str()
      ->check(between(0.0, kMostScale))
      ->group(kSpecGroup);
  command.add_flag("--paged", spec.paged, "For strides, lengths per sequence and page tables")
      ->group(kSpecGroup);
  command
      .add_option("--kv-dtype", kvDtype,
                  "Elements of keys and values of a paged program: same (as --dtype) or fp8_e4m3")
      ->capture_default_str()
      ->group(kSpecGroup);
  command.add_flag("--backward", spec.backward, "Kernels of gradients beside the others")
      ->group(kSpecGroup);
  command
      .add_option("--set", assignments,
                  "A parameter that the method declares, NAME=VALUE; may be given several times")
      ->group(kSpecGroup);
}

void ProgramFlags::addTargetFlags(CLI::App &command, const std::string &defaultArch) {
  arch = defaultArch;
  std::string group = kTargetGroup;
  command.add_option("--arch", arch, "GPU architectures, separated by commas")
      ->capture_default_str()
      ->check(listOf())
      ->group(group);
  command
      .add_option("--config", config,
                  "Tunables, e.g. \"attend_stages=3 attend_softmax=lazy\" (see `winnow tunables`); "
                  "unnamed ones: default")
      ->group(group);
  command
      .add_option("--kernel", kernelFiles,
                  "NAME=FILE: this text instead of the kernel of that name, CUDA (.cu) or tile "
                  "(.mlir), as `winnow compile --emit cuda,tile` writes them")
      ->group(group);
  command
      .add_option("--nvrtc", nvrtcPath, "Path of libnvrtc; default: searched (see `winnow doctor`)")
      ->group(group);
}

void ProgramFlags::addTunedFlags(CLI::App &command, bool withHints) {
  std::string group = kTunedGroup;
  command
      .add_option(
          "--tuned", tuned,
          "on or off: whether tunables that --config leaves open are looked up (see `winnow "
          "db`); default: on unless --config is given")
      ->check(CLI::IsMember({"on", "off"}))
      ->group(group);
  if (!withHints)
    return;
  command
      .add_option("--tokens", workload.tokens, "Length of a typical sequence; 0: unknown, 131072")
      ->check(between<int64_t>(0, kMostTokens))
      ->group(group);
  command
      .add_option("--overlap", workload.overlap,
                  "Over how many tokens a selection turns into a new one; 0: unknown, 32")
      ->check(between<int64_t>(0, kMostTokens))
      ->group(group);
  command
      .add_option("--batch", workload.batch,
                  "Sequences of a launch of decode, of a paged program; 0: unknown, 16")
      ->check(between(0, kMostSequences))
      ->group(group);
  command
      .add_option("--device-name", deviceName,
                  "The GPU, as its driver calls it, e.g. \"NVIDIA H200\"; default: any of --arch")
      ->group(group);
}

Result<std::vector<std::string>> ProgramFlags::architectures() const {
  std::vector<std::string> names;
  if (arch == "none")
    return names;
  for (const std::string &name : splitList(arch)) {
    WINNOW_TRY(const Target *target, findTarget(name));
    names.push_back(name);
  }
  if (names.empty())
    return fail(ErrorKind::Usage, "--arch names no architecture");
  return names;
}

Result<CompileRequest> ProgramFlags::request() const {
  CompileRequest request;
  request.method = method;
  request.spec = spec;
  request.nvrtcPath = nvrtcPath;
  WINNOW_TRY(request.spec.dtype, parseDtype(dtype));
  WINNOW_TRY(request.spec.kvDtype, parseKvDtype(kvDtype));
  for (const std::string &assignment : assignments) {
    size_t equals = assignment.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == assignment.size())
      return fail(ErrorKind::Usage, fmt::format("--set {}: write NAME=VALUE", assignment));
    request.spec.params[assignment.substr(0, equals)] = assignment.substr(equals + 1);
  }
  for (const std::string &given : kernelFiles) {
    const size_t equals = given.find('=');
    const std::string file = given.substr(equals + 1);
    const bool isText = file.size() > 5 && (file.compare(file.size() - 3, 3, ".cu") == 0 ||
                                            file.compare(file.size() - 5, 5, ".mlir") == 0);
    if (equals == 0 || equals == std::string::npos || !isText)
      return fail(ErrorKind::Usage,
                  fmt::format("--kernel {}: write NAME=FILE with a file of .cu or .mlir", given));
    request.kernelFiles[given.substr(0, equals)] = file;
  }
  WINNOW_CHECK(request.spec.check());
  WINNOW_TRY(request.config, Config::parse(config));
  if (std::vector<std::string> names = splitList(arch); !names.empty())
    request.arch = names[0];
  return request;
}

} // namespace winnow
