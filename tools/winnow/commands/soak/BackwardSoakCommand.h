// `winnow soak backward`: the same gradients again and again, which must be the same bits.
#pragma once
#include "tools/winnow/Session.h"

namespace winnow {

/// Adds the command below `winnow soak`.
CLI::App *addBackwardSoakCommand(CLI::App &soak, Session &session);

} // namespace winnow
