// A file of the source tree that travels inside a library as bytes, so that nothing has to be found
// on the user's disk (fault F22). cmake/Embed.cmake writes the sources that define such lists: the
// compiler's in compiler/driver/EmbeddedFiles.h, the runtime's in runtime/tuned/TunedDatabase.h.
#pragma once
#include <string_view>
#include <vector>

namespace winnow {

struct EmbeddedFile {
  const char *name; ///< file name without folder
  std::string_view text;
};

} // namespace winnow
