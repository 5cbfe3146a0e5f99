// Lines of tuned files: read, collected, printed, read again, looked up.
#include "runtime/tuned/TunedLadder.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  TuningLines lines = parseTuningLines(textOf(data, size));
  if (!lines.records.empty())
    countAccepted();
  for (const TuningRecord &record : lines.records) {
    std::string line = recordLine(record);
    TuningLines again = parseTuningLines(line);
    require(again.records.size() == 1, "the line of a record can be read");
    require(recordLine(again.records[0]) == line, "what was read prints the same line");
  }
  TunedDatabase database;
  database.add("first", lines);
  const std::string text = database.text(/*withTrials=*/true);
  TunedDatabase second;
  second.add("second", parseTuningLines(text));
  require(second.text(true) == text, "the text of a database means it");
  // Whoever merges twice, or a file into itself, changes nothing.
  second.add("third", parseTuningLines(text));
  require(second.text(true) == text, "a file merged into itself is itself");

  for (const TuningRecord &record : lines.records) {
    TuningKey key = record.key;
    key.tokens = tokensBucket(key.tokens), key.overlap = overlapBucket(key.overlap);
    (void)lookUp(database, key, {}, [](const std::string &) {});
    key.device.clear();
    (void)lookUp(database, key, {}, [](const std::string &) {});
  }
  return 0;
}
