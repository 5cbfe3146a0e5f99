// `winnow bench backward`: launches of gradients, alone and behind the attention that they are of.
#pragma once
#include "tools/winnow/Session.h"

namespace winnow {

/// Adds the command below `winnow bench`.
CLI::App *addBackwardCommand(CLI::App &bench, Session &session);

} // namespace winnow
