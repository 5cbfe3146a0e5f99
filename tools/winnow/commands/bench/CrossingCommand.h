// `winnow bench crossing`: from how many keys on a selection pays, measured on a GPU.
#pragma once
#include "tools/winnow/Session.h"

namespace winnow {

/// Adds the command below `winnow bench`.
CLI::App *addCrossingCommand(CLI::App &bench, Session &session);

} // namespace winnow
