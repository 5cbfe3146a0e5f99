// Collects records by key. Which of two records stays depends on their contents alone, so that
// shards of a sweep may be merged in any order, by anyone, to the same bytes.
#include "runtime/tuned/TunedDatabase.h"
#include "runtime/Environment.h"
#include <algorithm>
#include <cerrno>
#include <fmt/format.h>

namespace winnow {

std::string userTunedFile() {
  // As for the cache: a relative path would read what lies in the present directory (F38).
  std::string base = environmentValue(EnvironmentVariable::XdgDataHome);
  if (base[0] != '/') {
    base = environmentValue(EnvironmentVariable::Home);
    if (base[0] != '/')
      return {};
    base += "/.local/share";
  }
  return base + "/winnow/tuned.jsonl";
}

std::vector<std::string> defaultTunedFiles() {
  std::vector<std::string> files = splitPaths(environmentValue(EnvironmentVariable::WinnowTuned));
  if (std::string own = userTunedFile(); !own.empty())
    files.push_back(own);
  return files;
}

TunedDatabase TunedDatabase::load(const std::vector<std::string> &files, bool shipped,
                                  const std::function<bool(std::string_view line)> &wanted,
                                  const std::function<void(TuningKey &)> &complete) {
  TunedDatabase database;
  auto read = [&](const std::string &name, std::string_view text) {
    TuningLines lines = parseTuningLines(text, wanted);
    for (TuningRecord &record : lines.records)
      if (complete)
        complete(record.key);
    for (CrossingRecord &record : lines.crossings)
      if (complete)
        complete(record.key);
    database.add(name, std::move(lines));
  };
  if (shipped)
    for (const EmbeddedFile &file : shippedTunedFiles())
      read(file.name, file.text);
  const std::string own = userTunedFile();
  for (const std::string &path : files) {
    FileContent content;
    int code = readFile(systemFiles(), path, /*followLinks=*/true, kMaxTunedBytes, content);
    if (code == 0 && !isOwn(content.info, /*orRoot=*/true))
      database.told.push_back(fmt::format(
          "{}: not used, it belongs to another user or can be written by others (chmod go-w)",
          path));
    else if (code == 0)
      read(path, content.bytes);
    else if (code != ENOENT || path != own) // the user's own file need not exist
      database.told.push_back(fmt::format("{}: {}", path, fileProblem(code)));
  }
  return database;
}

void TunedDatabase::add(const std::string &name, TuningLines lines) {
  for (const std::string &fault : lines.faults)
    told.push_back(fmt::format("{}: {}", name, fault));
  foreign.insert(lines.foreign.begin(), lines.foreign.end());
  for (TuningRecord &record : lines.records)
    add(std::move(record));
  for (CrossingRecord &record : lines.crossings)
    add(std::move(record));
  for (TuningTrial &trial : lines.trials) {
    std::string line = trialLine(trial);
    trials[trial.key.text()].emplace(std::move(line), std::move(trial));
  }
}

void TunedDatabase::add(TuningRecord record) {
  auto [it, isNew] = best.try_emplace(record.key.text(), record);
  if (!isNew && isBetter(record, it->second))
    it->second = std::move(record);
}

void TunedDatabase::add(CrossingRecord record) {
  auto [it, isNew] = crossing.try_emplace(record.key.text(), record);
  if (!isNew && outranks(record, it->second))
    it->second = std::move(record);
}

std::vector<TuningTrial> TunedDatabase::trialsOf(const std::string &key) const {
  std::vector<TuningTrial> list;
  if (auto it = trials.find(key); it != trials.end())
    for (const auto &[line, trial] : it->second)
      list.push_back(trial);
  return list;
}

std::string TunedDatabase::text(bool withTrials) const {
  std::map<std::string, std::string> byKey;
  for (const auto &[key, record] : best)
    byKey[key] = recordLine(record) + "\n";
  for (const auto &[key, record] : crossing)
    byKey[key] = crossingLine(record) + "\n";
  if (withTrials)
    for (const auto &[key, lines] : trials)
      for (const auto &[line, trial] : lines)
        byKey[key] += line + "\n";
  std::string text;
  for (const auto &[key, lines] : byKey)
    text += lines;
  for (const std::string &line : foreign)
    text += withTrials ? line + "\n" : "";
  return text;
}

bool isBetter(const TuningRecord &a, const TuningRecord &b) {
  if (outranks(a, b) != outranks(b, a))
    return outranks(a, b);
  if (a.ms != b.ms)
    return a.ms < b.ms;
  return recordLine(a) < recordLine(b);
}

} // namespace winnow
