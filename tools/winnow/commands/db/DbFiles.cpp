// Files in, one file out; and the faults of files.
#include "tools/winnow/commands/db/DbFiles.h"
#include "compiler/driver/Compile.h"
#include "runtime/Environment.h"
#include "runtime/Printable.h"
#include "tools/winnow/io/Json.h"
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace winnow {
namespace {

/// Whether publish() can put a file there.
bool isWritable(const std::string &path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  bool folderIsWritable = ::access(folder.empty() ? "." : folder.c_str(), W_OK) == 0;
  return folderIsWritable &&
         (::access(path.c_str(), W_OK) == 0 || ::access(path.c_str(), F_OK) != 0);
}

/// Where imported records go.
Result<std::string> importTarget() {
  for (const std::string &path : splitPaths(environmentValue(EnvironmentVariable::WinnowTuned)))
    if (isWritable(path))
      return path;
  std::string own = userTunedFile();
  if (own.empty())
    return fail(ErrorKind::Usage,
                "no file to import into: WINNOW_TUNED names no writable one, and there is no HOME");
  (void)makeDirectories(std::filesystem::path(own).parent_path()); // publishing will tell
  return own;
}

/// Holds a file against other imports while it is read, merged and replaced: the second of two
/// would lose what the first brought. Where locks do not work, goes on without.
class ImportLock {
public:
  explicit ImportLock(const std::string &path) {
    struct stat held{}, now{};
    do { // whoever had the lock before has put another file in the place of the one that we locked
      if (file >= 0)
        ::close(file);
      file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    } while (file >= 0 && ::flock(file, LOCK_EX) == 0 && ::fstat(file, &held) == 0 &&
             (::stat(path.c_str(), &now) != 0 || now.st_ino != held.st_ino));
  }
  ~ImportLock() {
    if (file >= 0)
      ::close(file);
  }
  ImportLock(const ImportLock &) = delete;
  ImportLock &operator=(const ImportLock &) = delete;

private:
  int file = -1;
};

Status publishDatabase(const Session &session, const TunedDatabase &database,
                       const std::string &path, bool withTrials, mode_t mode) {
  std::string text = database.text(withTrials);
  WINNOW_CHECK(publishFile(systemFiles(), path, text, mode));
  size_t records = database.records().size();
  if (session.json)
    printJson(nlohmann::json{{"file", path}, {"records", records}, {"bytes", text.size()}}, -1);
  else
    say(fmt::format("wrote {}: {} record{}, {} bytes", path, records, records == 1 ? "" : "s",
                    text.size()));
  return {};
}

/// The legality check of loaded configurations, each problem once.
class LegalityCheck {
public:
  Status operator()(const TuningRecord &record) {
    CompileRequest request;
    request.method = record.key.method;
    request.spec = record.key.spec;
    request.arch = record.key.arch;
    for (const Tunable *tunable : phaseTunables(record.key.phase))
      tunable->set(request.config, tunable->get(record.config));
    std::string name = fmt::format("{} {} {} {}", request.method, request.spec.text(),
                                   request.config.text(), request.arch);
    auto it = known.find(name);
    if (it == known.end()) {
      auto lowered = lowerProgram(request);
      it = known.emplace(name, lowered ? Status() : tl::unexpected(lowered.error())).first;
    }
    return it->second;
  }

private:
  std::map<std::string, Status> known;
};

} // namespace

Result<TunedDatabase> readTunedFiles(const std::vector<std::string> &files) {
  TunedDatabase database;
  for (const std::string &path : files) {
    WINNOW_TRY(std::string text, readWholeFile(systemFiles(), path, kMaxTunedBytes));
    database.add(path, parseTuningLines(text));
  }
  for (const std::string &fault : database.faults())
    say("skipped: " + fault);
  return database;
}

Status mergeTunedFiles(const Session &session, const std::vector<std::string> &files,
                       const std::string &output, bool withTrials) {
  WINNOW_TRY(TunedDatabase database, readTunedFiles(files));
  // 0644 whatever the umask allows: a file that others could write is not used (F38).
  return publishDatabase(session, database, output, withTrials, 0644);
}

Status importTunedFiles(const Session &session, const std::vector<std::string> &files) {
  WINNOW_TRY(std::string target, importTarget());
  for (const std::string &path : files) // before the target is made
    if (Result<std::string> text = readWholeFile(systemFiles(), path, kMaxTunedBytes); !text)
      return tl::unexpected(text.error());
  ImportLock lock(target);
  std::vector<std::string> all = files;
  if (struct stat info{}; ::stat(target.c_str(), &info) == 0) {
    if (!isOwn(info, /*orRoot=*/true))
      return fail(ErrorKind::Usage,
                  fmt::format("{} belongs to another user or can be written by others: look what "
                              "is in it, then chmod go-w",
                              target));
    all.push_back(target);
  }
  WINNOW_TRY(TunedDatabase database, readTunedFiles(all));
  return publishDatabase(session, database, target, /*withTrials=*/true, 0600);
}

Status verifyTunedFiles(const Session &session, const std::vector<std::string> &files) {
  std::vector<std::string> faults;
  size_t records = 0;
  bool checked = hasCompiler();
  LegalityCheck check;
  for (const std::string &path : files) {
    WINNOW_TRY(std::string text, readWholeFile(systemFiles(), path, kMaxTunedBytes));
    TuningLines lines = parseTuningLines(text);
    for (const std::string &fault : lines.faults)
      faults.push_back(fmt::format("{}: {}", path, fault));
    std::set<std::string> keys;
    for (const TuningRecord &record : lines.records) {
      std::string key = record.key.text();
      if (!keys.insert(key).second)
        faults.push_back(fmt::format("{}: given twice: {}", path, key));
      if (Status status = checked ? check(record) : Status(); !status)
        faults.push_back(fmt::format("{}: [{}] of {}: {}", path, wordText(record.config), key,
                                     status.error().message));
    }
    records += lines.records.size();
  }
  if (session.json)
    printJson(
        nlohmann::json{{"records", records}, {"configs_checked", checked}, {"faults", faults}});
  else
    for (const std::string &fault : faults)
      fmt::print("{}\n", printable(fault));
  if (!faults.empty())
    return fail(ErrorKind::WrongResult,
                fmt::format("{} fault{} in {} record{}", faults.size(),
                            faults.size() == 1 ? "" : "s", records, records == 1 ? "" : "s"));
  say(fmt::format("{} records{}", records,
                  checked ? ", every configuration legal"
                          : "; configurations are not checked, "
                            "this build has no compiler"));
  return {};
}

} // namespace winnow
