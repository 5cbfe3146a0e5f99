// Lists of programs as `winnow prepare` takes them.
#include "tools/winnow/commands/prepare/SpecList.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<std::vector<CompileRequest>> list =
      readSpecList(std::string(textOf(data, size)), {"sm_80", "sm_90a"});
  if (!list)
    return 0;
  countAccepted();
  for (const CompileRequest &request : *list) {
    require(!request.method.empty() && !request.arch.empty(), "every request is complete");
    Result<Spec> spec = Spec::parse(request.spec.text());
    require(spec && spec->text() == request.spec.text(), "the text of a spec means it");
    require(request.spec.group() > 0, "heads divide into groups");
  }
  return 0;
}
