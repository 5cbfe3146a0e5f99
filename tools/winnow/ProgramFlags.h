// The flags that name a program: method, spec, method parameters, tunables, architectures. The same
// on every command.
#pragma once
#include "compiler/Compile.h"
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace winnow {

class ProgramFlags {
public:
  /// Adds METHOD (required unless told otherwise) and the spec flags.
  void addTo(CLI::App &command, bool methodRequired = true);
  /// Adds --arch with a default list, --config and --nvrtc.
  void addTargetFlags(CLI::App &command, const std::string &defaultArch);

  /// The request for the first architecture. Error: Usage, naming the flag.
  Result<CompileRequest> request() const;
  /// The architectures of --arch, each known to the table of targets; empty for "none".
  Result<std::vector<std::string>> architectures() const;

  std::string method;
  Spec spec;
  std::string arch;

private:
  std::string dtype = "bf16", config, nvrtcPath;
  std::vector<std::string> assignments;
};

} // namespace winnow
