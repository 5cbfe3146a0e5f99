// The file of a sweep, whatever a killed writer left in it: what is appended can be read.
#include "autotune/search/TuningFile.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  MemoryFile memory(textOf(data, size));
  Result<TuningFile> file = TuningFile::open(memory.path());
  if (!file)
    return 0;
  if (!file->lines().records.empty())
    countAccepted();
  for (const TuningRecord &record : file->lines().records)
    require(file->has(record.key, record.effort) == (record.origin == "measured"),
            "measured records count as done");
  TuningRecord record;
  record.key.phase = "attend", record.key.method = "fuzz";
  require(file->append({recordLine(record)}).has_value(), "a line can be appended");
  Result<TuningFile> again = TuningFile::open(memory.path());
  require(again.has_value(), "the file can be read again");
  require(again->lines().records.size() >= file->lines().records.size(), "no record is lost");
  return 0;
}
