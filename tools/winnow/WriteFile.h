// Writes result files so that nothing half-written is ever left under the final name: temporary
// file beside it, flush, rename. Every file that the command line writes goes through here.
#pragma once
#include "runtime/Error.h"
#include <string>
#include <string_view>

namespace winnow {

/// Writes the pieces one after the other to `path`. On any failure (missing folder, no permission,
/// disk full) the temporary file is removed, `path` is as before, and the error names the file and
/// the cause.
Status writeFile(const std::string &path, std::initializer_list<std::string_view> pieces);

/// The whole content of a file, or Usage naming it.
Result<std::string> readFile(const std::string &path);

} // namespace winnow
