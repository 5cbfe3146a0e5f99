// Reads the words of variants, and looks up what they leave open.
#include "tools/winnow/commands/bench/Variants.h"
#include <algorithm>
#include <fmt/format.h>
#include <sstream>

namespace winnow {
namespace {

/// The variant whose tunables are looked up, for each length and overlap.
const char *const kTuned = "tuned";
const char *const kDefault = "default"; ///< the variant of no words

/// Words NAME=VALUE: of a tunable, else of a parameter of the method; what they leave open stays as
/// --config has it.
Status readVariant(const std::string &text, CompileRequest &request) {
  std::string config;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    if (equals == std::string::npos || findTunable(name))
      config += word + " ";
    else
      request.spec.params[name] = word.substr(equals + 1);
  }
  WINNOW_TRY(const Config own, Config::parse(config));
  for (const Tunable &tunable : tunables())
    if (int value = tunable.get(own))
      tunable.set(request.config, value);
  return {};
}

} // namespace

void Variants::read(std::vector<std::string> given, bool tuned) {
  texts = std::move(given);
  std::replace(texts.begin(), texts.end(), std::string(kDefault), std::string());
  if (texts == std::vector<std::string>{kTuned})
    texts.insert(texts.begin(), "");
  if (texts.empty())
    texts.push_back(tuned ? kTuned : "");
}

Result<std::vector<Labelled>> Variants::of(const CompileRequest &base,
                                           const std::vector<std::string> &archs,
                                           const Workload &workload,
                                           const std::string &deviceName) {
  const bool ptx = base.form == CodeForm::Ptx;
  std::vector<Labelled> list;
  for (const std::string &arch : archs)
    for (const std::string &text : texts) {
      Labelled one;
      one.request = base;
      one.request.arch = arch;
      const bool isTuned = text == kTuned;
      if (!isTuned)
        WINNOW_CHECK(readVariant(text, one.request));
      const ChosenConfig choice =
          (isTuned ? tunedConfigs : untunedConfigs).fill(one.request, workload, deviceName);
      if (isTuned || !choice.resolved.empty())
        one.note =
            fmt::format("{}, {} {} tokens, top-{}, L = {}: {} [{}]", text.empty() ? kDefault : text,
                        arch, workload.tokens, base.spec.topk, workload.overlap,
                        choiceText(choice, /*selects=*/true), shortText(choice.config));
      one.name = arch + (ptx ? " ptx" : "") + (text.empty() ? "" : " " + text);
      list.push_back(std::move(one));
    }
  return list;
}

} // namespace winnow
