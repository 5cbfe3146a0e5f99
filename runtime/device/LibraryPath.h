// Whom a library file belongs to. Opening a library runs its code, so one that is opened by its
// path must lie where nobody but this user and root can put another in its place
// (docs/security.md).
#pragma once
#include "runtime/Error.h"
#include <string>

namespace winnow {

/// The real path of a library that may be opened: the file, every folder on the way from / to it
/// and every symbolic link in between belong to this process's user or to root, and nobody else can
/// write them. A folder with the sticky bit (/tmp) passes where it only leads on. Error: Usage,
/// what is at fault and what to do about it, or why there is no such file.
Result<std::string> trustedLibrary(const std::string &path);

} // namespace winnow
