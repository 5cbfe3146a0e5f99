// What `winnow bench table` reads: the JSON of earlier runs; and times of others as --peer takes
// them.
#include "tests/fuzz/Fuzz.h"
#include "tools/winnow/commands/bench/BenchReport.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  MemoryFile file(textOf(data, size));
  if (Result<std::string> table = benchTable({file.path(), file.path()})) {
    countAccepted();
    require(!table->empty(), "a table has text");
  }
  if (Result<Peer> peer = Peer::parse(std::string(textOf(data, size))))
    require(!peer->name.empty() && peer->milliseconds > 0, "a peer has a name and a time");
  return 0;
}
