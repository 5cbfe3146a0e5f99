// What `winnow run` tells: step by step as text on stdout, or one JSON object at the end.
#pragma once
#include "reference/Compare.h"
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/commands/run/PagedRun.h"
#include "tools/winnow/commands/run/Prompt.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include <nlohmann/json.hpp>
#include <optional>

namespace winnow {

class RunReport {
public:
  void begin(bool json, const std::string &device);
  void compiled(const std::vector<ObtainedProgram> &programs);
  void prompt(const Prompt &prompt);
  void ran(const reference::Problem &problem, const BackendAnswer &answer);
  void tuned(const ChosenConfig &choice, bool selects);
  /// A check that cannot be done, and why.
  void notChecked(const std::string &why);
  void checked(size_t rows, const std::optional<reference::SelectionReport> &selection,
               const reference::OutputReport &output, const std::optional<Recall> &recall);
  void gradients(const reference::GradientReport &gradients);
  /// The calls of a paged run, each with its check: a line for each, or for a long run for those
  /// that failed.
  void stepped(const std::vector<PagedStep> &steps, const std::optional<Recall> &recall);
  /// What fp8 has changed against keys and values of `dtype`.
  void fp8Cost(const Fp8Cost &cost, Dtype dtype);
  void dense(double denseMs, double touchedShare);
  void drawn(const std::string &path, size_t bytes);
  /// Prints the JSON object. Error: WrongResult if a check failed.
  Status finish();

private:
  void section(const std::string &title, const std::string &text);
  std::string recallLine(const std::optional<Recall> &recall);

  bool json = false;
  int number = 0;
  double sparseMs = 0;
  nlohmann::json object = nlohmann::json::object();
  std::string failure;
};

} // namespace winnow
