// The two kinds of processes that `winnow tune` starts: one compiles candidates, the other runs
// them on a GPU. What they are asked is written in autotune/search/Tuner.h.
#pragma once
#include <string>

namespace winnow {

/// Serves requests on stdin until it ends; `kind` is "compile" or "measure". The exit status of the
/// process.
int runTuneWorker(const std::string &kind);

} // namespace winnow
