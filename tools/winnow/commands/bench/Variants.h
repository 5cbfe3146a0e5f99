// What --variant of `winnow bench` names: ways of compiling one program that are timed side by
// side.
#pragma once
#include "tools/winnow/commands/tune/TunedConfigs.h"

namespace winnow {

struct Labelled {
  std::string name; ///< "sm_90a attend_stages=3"
  CompileRequest request;
  std::string note; ///< where its tunables come from, if they are looked up
};

class Variants {
public:
  /// `texts` as given: tunables, parameters of the method, "default" or "tuned", the latter beside
  /// the default where it is the only one. None: the tuned configuration if `tuned`, else the
  /// default.
  void read(std::vector<std::string> texts, bool tuned);
  /// Every variant of `base` on each architecture, for one workload. `deviceName`: of the GPU;
  /// empty: not known. Error: Usage for a text.
  Result<std::vector<Labelled>> of(const CompileRequest &base,
                                   const std::vector<std::string> &archs, const Workload &workload,
                                   const std::string &deviceName);

private:
  std::vector<std::string> texts;
  TunedConfigs tunedConfigs{true}, untunedConfigs{false}; ///< the latter looks `auto` up alone
};

} // namespace winnow
