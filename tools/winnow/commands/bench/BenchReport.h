// What `winnow bench` measured: as lines, as JSON, and as a table of a page made from such JSON.
#pragma once
#include "runtime/Error.h"
#include "tools/winnow/commands/bench/BenchDevice.h"
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace winnow {

/// A time of another implementation, as given on the command line.
struct Peer {
  std::string name;
  int tokens = 0; ///< 0: for every length
  double milliseconds = 0;
  /// NAME=MS or NAME@TOKENS=MS. Error: Usage, with the text.
  static Result<Peer> parse(const std::string &text);
};

struct Measurement {
  std::string phase; ///< select, attend, whole, dense
  std::string variant;
  int tokens = 0, topk = 0;
  int overlap = 0; ///< 0: does not apply
  bool checked = true;
  Timing timing;
  double operations = 0; ///< useful ones on tensor cores
  double peakTflops = 0;
  double tflops() const { return operations / timing.medianMs * 1e-9; }
  double floorMs() const { return operations / peakTflops * 1e-9; }
};

/// What was measured, in words; `place`: where keys lie, where that is to be said.
std::string programText(const CompileRequest &request, const std::string &place);
/// What the JSON of a run says of the run itself.
nlohmann::json runJson(const std::string &device, const std::string &driver,
                       const std::string &program, int rounds, bool checked);
/// "attend 131072 tokens, top-96, L = 32, sm_90a: ..."; kernels below it where there are several.
std::string measurementText(const Measurement &measurement);
nlohmann::json measurementJson(const Measurement &measurement);

/// One markdown table per device, program and day, from the JSON of several runs. Error: Usage for
/// a file that is not such JSON.
Result<std::string> benchTable(const std::vector<std::string> &files);
/// Puts text between the marks <!-- MARK:begin --> and <!-- MARK:end --> of a file. Error: Usage
/// where the file or a mark is missing.
Status replaceBetweenMarks(const std::string &path, const std::string &text,
                           const std::string &mark = "bench");

} // namespace winnow
