// The parts of `winnow cache` that live in files of their own.
#pragma once
#include "tools/winnow/Session.h"

namespace winnow {

/// `winnow cache export` and `import`: programs between the cache and bundle files.
void addBundleCommands(CLI::App &cache, Session &session);
/// `winnow cache why-miss`: what tells a program from the nearest one in the cache.
void addWhyMissCommand(CLI::App &cache, Session &session);

} // namespace winnow
