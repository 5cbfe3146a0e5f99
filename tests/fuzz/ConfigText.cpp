// Texts of configurations, as --config, tuned records and program images hold them.
#include "runtime/program/Tunables.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<Config> config = Config::parse(std::string(textOf(data, size)));
  if (!config)
    return 0;
  countAccepted();
  Result<Config> again = Config::parse(config->text());
  require(again && again->text() == config->text(), "the text of a configuration means it");
  std::string few = shortText(*config);
  Result<Config> fromFew = few == "default" ? Config() : Config::parse(few);
  require(fromFew && fromFew->text() == config->text(), "so does the short one");
  Result<Config> fromWords = few == "default" ? Config() : Config::parse(wordText(*config));
  require(fromWords && fromWords->text() == config->text(), "and the one with words");
  return 0;
}
