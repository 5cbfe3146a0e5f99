// `winnow bench decode`: a few query tokens per sequence over pages of keys, as engines decode.
#pragma once
#include "tools/winnow/Session.h"

namespace winnow {

/// Adds the command below `winnow bench`.
CLI::App *addDecodeCommand(CLI::App &bench, Session &session);

} // namespace winnow
