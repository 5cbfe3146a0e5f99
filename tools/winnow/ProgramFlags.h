// The flags that name a program: method, spec, method parameters, tunables, architectures. The same
// on every command.
#pragma once
#include "compiler/driver/Compile.h"
#include "runtime/tuned/TunedLadder.h"
#include "tools/winnow/io/CommandLine.h"
#include <string>
#include <vector>

namespace winnow {

/// The groups that a command's help shows these flags in.
constexpr char kSpecGroup[] = "Spec", kTargetGroup[] = "Target",
               kTunedGroup[] = "Tuned configurations";

class ProgramFlags {
public:
  /// Adds METHOD (required unless told otherwise; `name` and `meaning` where a command takes more
  /// than methods) and the spec flags.
  void addTo(CLI::App &command, bool methodRequired = true, const char *name = "METHOD",
             const char *meaning =
                 "Name of a built-in method (see `winnow methods`) or path of a .mlir file");
  /// Adds --arch with a default list, --config and --nvrtc.
  void addTargetFlags(CLI::App &command, const std::string &defaultArch);

  /// Adds --tuned, and --tokens, --overlap, --batch and --device-name where the command does not
  /// know what will run.
  void addTunedFlags(CLI::App &command, bool withHints);

  /// Whether open tunables are looked up: what --tuned says, else unless --config is given, or a
  /// kernel, whose text was written for certain tunables.
  bool tunes() const {
    return tuned.empty() ? config.empty() && kernelFiles.empty() : tuned == "on";
  }
  bool hasKvDtype() const { return kvDtype != "same"; } ///< --kv-dtype names another one
  /// The request for the first architecture, its spec checked. Error: Usage, naming the flag.
  Result<CompileRequest> request() const;
  /// The architectures of --arch, each known to the table of targets; empty for "none".
  Result<std::vector<std::string>> architectures() const;

  std::string method;
  Spec spec;
  std::string arch, deviceName;
  Workload workload; ///< as hinted

private:
  std::string dtype = "bf16", kvDtype = "same", config, nvrtcPath, tuned;
  std::vector<std::string> assignments, kernelFiles;
};

} // namespace winnow
