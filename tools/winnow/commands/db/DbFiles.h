// What `winnow db` does to files of tuned configurations: reads, merges, publishes, imports and
// verifies them.
#pragma once
#include "runtime/tuned/TunedDatabase.h"
#include "tools/winnow/Session.h"

namespace winnow {

/// The records and trials of files that the user named. Lines that are skipped are told on stderr.
/// Error: Usage for a file that cannot be read.
Result<TunedDatabase> readTunedFiles(const std::vector<std::string> &files);
/// Merges files into one, published by rename. Without trials: the form that is shipped.
Status mergeTunedFiles(const Session &session, const std::vector<std::string> &files,
                       const std::string &output, bool withTrials);
/// Merges files into the user's own: the first writable one of WINNOW_TUNED, else userTunedFile().
/// Error: Usage where there is none.
Status importTunedFiles(const Session &session, const std::vector<std::string> &files);
/// Lists every line that this build cannot use: broken, of another schema, a key given twice, or a
/// configuration that no kernel can be built with (where this build has a compiler). Error:
/// WrongResult if there is any.
Status verifyTunedFiles(const Session &session, const std::vector<std::string> &files);

} // namespace winnow
