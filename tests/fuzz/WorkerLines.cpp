// The lines between the tuner and its workers: an answer, as the tuner reads it, and a request, as
// a worker answers it.
#include "autotune/search/Worker.h"
#include "runtime/JsonText.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string line(textOf(data, size));
  if (std::optional<Result<nlohmann::json>> answer = readAnswer(line))
    require(answer->has_value() || (answer->error().kind >= ErrorKind::WrongResult &&
                                    answer->error().kind <= ErrorKind::NotReady),
            "an error that was answered has a kind");

  bool asked = false;
  const std::string answer =
      answerLine(line, [&](const nlohmann::json &request) -> Result<nlohmann::json> {
        asked = true;
        JsonFields fields(request);
        nlohmann::json echo{{"text", fields.text("spec")},
                            {"flag", fields.flag("ptx")},
                            {"whole", fields.whole("gpu")},
                            {"number", fields.number("ms")}};
        if (!fields.status())
          return tl::unexpected(fields.status().error());
        return echo;
      });
  if (asked)
    countAccepted();
  require(answer.find('\n') == std::string::npos, "an answer is one line");
  std::optional<Result<nlohmann::json>> read = readAnswer(answer);
  require(read.has_value(), "the tuner understands every answer");
  require(asked || !*read, "what is no request is answered with an error");
  return 0;
}
