// The table of tunables, and everything that goes over all fields of a Config: its texts, reading
// them, and whether its values are legal.
#include "runtime/program/Tunables.h"
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>
#include <type_traits>
#include <utility>

namespace winnow {

namespace {

constexpr const char *kAttend = "attend", *kSelect = "select";

template <auto Member> int get(const Config &config) { return static_cast<int>(config.*Member); }
template <auto Member> void set(Config &config, int value) {
  config.*Member = static_cast<std::decay_t<decltype(config.*Member)>>(value);
}

/// A tunable that is a quantity.
template <auto Member>
Tunable number(const char *name, const char *phase, const char *meaning,
               const std::vector<int> &values) {
  return {name, phase, meaning, get<Member>, set<Member>, values, {}, 0, values};
}

/// A quantity that may have any value up to a limit; checks take `values` as examples.
template <auto Member>
Tunable limit(const char *name, const char *phase, const char *meaning, int upTo,
              std::vector<int> values, std::vector<int> searched) {
  return {name,        phase,       meaning,
          get<Member>, set<Member>, std::move(values),
          {},          upTo,        std::move(searched)};
}

template <typename E> struct Way {
  E value;
  const char *word, *meaning;
};
template <auto Member> using Ways = std::vector<Way<std::decay_t<decltype(Config().*Member)>>>;

/// A tunable whose values are ways of doing something.
template <auto Member>
Tunable ways(const char *name, const char *phase, const char *meaning, const Ways<Member> &all) {
  Tunable row{name, phase, meaning, get<Member>, set<Member>, {}, {}, 0, {}};
  for (const auto &way : all) {
    row.values.push_back(static_cast<int>(way.value));
    row.words.push_back({row.values.back(), way.word, way.meaning});
  }
  row.searched = row.values;
  return row;
}

/// The same, of which the tuner tries one way alone: others are asked for by hand.
Tunable byHand(Tunable row, int tried) {
  row.searched = {tried};
  return row;
}

std::string knownNames() {
  std::string names;
  for (const Tunable &tunable : tunables())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", tunable.name);
  return names;
}

/// The value that a text means: a word of the tunable, or a number.
Result<int> readValue(const Tunable &tunable, std::string_view text) {
  for (const TunableWord &word : tunable.words)
    if (text == word.word)
      return word.value;
  int value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code == std::errc() && end == text.data() + text.size() && value >= 0)
    return value;
  if (tunable.words.empty())
    return fail(ErrorKind::Usage,
                fmt::format("config: {} takes a whole number >= 0, not '{}'", tunable.name, text));
  return fail(ErrorKind::Usage, fmt::format("config: {} takes {}, or 0 for the default, not '{}'",
                                            tunable.name, tunable.valuesText(), text));
}

template <typename Value> std::string textOfSet(const Config &config, Value value) {
  std::string out;
  for (const Tunable &tunable : tunables())
    if (int number = tunable.get(config))
      out += fmt::format("{}{}={}", out.empty() ? "" : " ", tunable.name, value(tunable, number));
  return out.empty() ? "default" : out;
}

} // namespace

const std::array<Tunable, kTunableCount> &tunables() {
  // Never destroyed, like every table of the library: while the process exits, other threads may
  // still be using it. A field of Config without a row, or a row too many, does not compile.
  static const auto &rows = *new std::array{
      ways<&Config::attendForm>(
          "attend_form", kAttend, "how the products of attention are made",
          {{AttendForm::Warpgroups, "warpgroups",
            "by warpgroups (wgmma) fed by bulk copies; Hopper"},
           {AttendForm::Warps, "warps", "by single warps (mma.sync) fed by cp.async"}}),
      number<&Config::attendWarps>("attend_warps", kAttend,
                                   "warps that compute; 4, 8 or 12 in the form of warpgroups",
                                   {1, 2, 4, 6, 7, 8, 12, 16}),
      number<&Config::attendProducers>("attend_producers", kAttend,
                                       "form of warps: warps that load keys and values",
                                       {1, 2, 4, 8}),
      number<&Config::attendStages>("attend_stages", kAttend,
                                    "ring stages, one tile of keys and one of values each",
                                    {2, 3, 4, 5, 6, 7, 8, 9, 10}),
      number<&Config::attendKeys>("attend_keys", kAttend, "keys of one ring stage", {32, 64}),
      number<&Config::attendRows>("attend_rows", kAttend, "form of warps: query rows of each warp",
                                  {16, 32}),
      ways<&Config::attendSplit>(
          "attend_split", kAttend,
          "form of warpgroups: whether key tiles that few tokens want are kept apart",
          {{YesNo::No, "no", "a warpgroup takes every tile that one of its warps wants"},
           {YesNo::Yes, "yes", "tiles that single warps want have a part of the list"}}),
      ways<&Config::attendSoftmax>(
          "attend_softmax", kAttend, "form of warpgroups: when the running maximum is raised",
          {{AttendSoftmax::Eager, "eager", "with every step"},
           {AttendSoftmax::Lazy, "lazy", "only where sums leave the range"}}),
      ways<&Config::attendFma>(
          "attend_fma", kAttend,
          "form of warpgroups: how many exponentials the FMA units make, by a cubic",
          {{AttendFma::None, "none", "none: the special-function units make all"},
           {AttendFma::Half, "half", "2 of every 4"},
           {AttendFma::ThreeQuarters, "three_quarters", "3 of every 4"}}),
      ways<&Config::scoreForm>(
          "score_form", kSelect, "scores on warpgroups: where blocks are selected",
          {{ScoreForm::Separate, "separate", "in a kernel of its own, from a buffer of scores"},
           {ScoreForm::Fused, "fused", "in the kernel of scores, from small scratch"}}),
      number<&Config::scoreTokens>(
          "score_tokens", kSelect,
          "scores on warps: tokens of a block of threads, for groups of 16", {16}),
      limit<&Config::scoreChunkMiB>(
          "score_chunk_mib", kSelect,
          "MiB of the scores' workspace: selection runs in chunks of tokens that fit it", 1 << 20,
          {1, 2, 16, 64, 1024}, {64, 256, 1024}),
      ways<&Config::scoreFold>(
          "score_fold", kSelect, "what the summaries of keys hold",
          {{YesNo::No, "no", "means of keys"},
           {YesNo::Yes, "yes",
            "means times the softmax scale: a score is a power times a weight"}}),
      ways<&Config::scorePoly>(
          "score_poly", kSelect,
          "scores on warpgroups: how many exponentials the FMA units make, by a cubic",
          {{ScorePoly::None, "none", "none: the special-function units make all"},
           {ScorePoly::Quarter, "quarter", "one of every 4"},
           {ScorePoly::Eighth, "eighth", "one of every 8"}}),
      number<&Config::decodeStages>(
          "decode_stages", kDecodePhase,
          "attention at decode: ring stages, one tile of keys and one of values each",
          {2, 3, 4, 6, 8}),
      number<&Config::decodeResident>(
          "decode_resident", kDecodePhase,
          "attention at decode: blocks of threads that a multiprocessor has room for",
          {1, 2, 3, 4, 6}),
      number<&Config::decodePartTiles>(
          "decode_part_tiles", kDecodePhase,
          "attention at decode: key tiles of a part of a token's keys, at least",
          {1, 2, 3, 4, 6, 8}),
      // One kernel wants a GPU of its own, which no measurement knows of.
      byHand(ways<&Config::decodeForm>(
                 "decode_form", kDecodePhase,
                 "a step of decode: selection and attention by one kernel after the other, or "
                 "together",
                 {{DecodeForm::Chain, "chain", "one kernel after the other"},
                  {DecodeForm::Step, "step",
                   "one kernel, whose blocks of threads all run at the same time; Hopper"}}),
             static_cast<int>(DecodeForm::Chain)),
      ways<&Config::decodeIds>(
          "decode_ids", kDecodePhase,
          "attention at decode: how a part finds the blocks that this launch has selected",
          {{DecodeIds::Listed, "listed", "one warp lists them, as it does those of a caller"},
           {DecodeIds::Direct, "direct", "by their ids, which are known to be right"}}),
      ways<&Config::decodeClusters>(
          "decode_clusters", kDecodePhase,
          "selection at decode: whether clusters make it, or a chain of kernels",
          {{DecodeClusters::Some, "some", "clusters, but where they leave the GPU one turn"},
           {DecodeClusters::All, "all", "clusters wherever they can"},
           {DecodeClusters::None, "none", "the chain"}}),
      number<&Config::decodeClusterBlocks>(
          "decode_cluster_blocks", kDecodePhase,
          "selection by clusters: blocks of threads of one, at most, but where weights need more",
          {2, 4, 8, 16}),
      number<&Config::decodeSelectWarps>("decode_select_warps", kDecodePhase,
                                         "selection by clusters: warps of a block that multiply",
                                         {4, 8}),
      ways<&Config::decodeExchange>(
          "decode_exchange", kDecodePhase,
          "selection by clusters: how blocks learn what others have stored for them",
          {{DecodeExchange::Barriers, "barriers", "by barriers of the whole cluster"},
           {DecodeExchange::Messages, "messages",
            "by asynchronous stores, whose bytes a barrier of the receiver counts"}}),
      ways<&Config::decodeNewRows>(
          "decode_new_rows", kDecodePhase,
          "selection by clusters: where it has the summaries from that new keys finish",
          {{DecodeNewRows::Wait, "wait", "from append, for whose end it waits"},
           {DecodeNewRows::Make, "make", "it makes a single one itself, beside append"}}),
      ways<&Config::backwardQueries>(
          "backward_queries", kBackwardPhase,
          "how the products of the gradients of queries are made",
          {{BackwardForm::Warpgroups, "warpgroups",
            "by warpgroups (wgmma) fed by bulk copies; Hopper"},
           {BackwardForm::Warps, "warps", "by single warps (mma.sync) fed by cp.async"}}),
      ways<&Config::backwardKeys>(
          "backward_keys", kBackwardPhase, "how the products of gradients by keys are made",
          {{BackwardForm::Warpgroups, "warpgroups",
            "by warpgroups (wgmma) fed by bulk copies; Hopper"},
           {BackwardForm::Warps, "warps", "by single warps (mma.sync) fed by cp.async"}}),
      ways<&Config::backwardChanges>(
          "backward_changes", kBackwardPhase,
          "where the gradients of queries have the gradients of logits from",
          {{BackwardChanges::Remade, "remade", "they make them once more"},
           {BackwardChanges::Stored, "stored",
            "from those of keys, which store them, a chunk of tokens at a time; form of "
            "warpgroups"}}),
      limit<&Config::backwardChunkMiB>(
          "backward_chunk_mib", kBackwardPhase,
          "stored gradients of logits: MiB of them, which a chunk of tokens has", 1 << 20,
          {1, 1024, 8192}, {8192}),
      number<&Config::backwardQueryWarps>("backward_query_warps", kBackwardPhase,
                                          "gradients of queries: warps that compute", {1, 2, 4, 8}),
      number<&Config::backwardQueryStages>(
          "backward_query_stages", kBackwardPhase,
          "gradients of queries: ring stages, one tile of keys and one of values each",
          {2, 3, 4, 5, 6, 7, 8, 9, 10}),
      number<&Config::backwardQueryKeys>("backward_query_keys", kBackwardPhase,
                                         "gradients of queries: keys of one ring stage", {32, 64}),
      number<&Config::backwardKeyStages>(
          "backward_key_stages", kBackwardPhase,
          "gradients of keys and values: ring stages, of query rows and gradients of outputs",
          {2, 3, 4, 6}),
      number<&Config::backwardKeyRows>("backward_key_rows", kBackwardPhase,
                                       "gradients of keys and values: query rows of one ring stage",
                                       {16, 32, 64}),
      number<&Config::backwardTileKeys>(
          "backward_tile_keys", kBackwardPhase,
          "gradients of keys and values: keys of a block of threads, 16 of them a warp",
          {16, 32, 64, 128}),
      number<&Config::backwardRangeTokens>("backward_range_tokens", kBackwardPhase,
                                           "gradients of keys and values: tokens of a range, whose "
                                           "sums are joined afterwards, about",
                                           {4096, 8192, 16384, 32768, 65536}),
  };
  return rows;
}

const Tunable *findTunable(std::string_view name) {
  for (const Tunable &tunable : tunables())
    if (name == tunable.name)
      return &tunable;
  return nullptr;
}

std::vector<const Tunable *> phaseTunables(std::string_view phase) {
  std::vector<const Tunable *> rows;
  for (const Tunable &tunable : tunables())
    if (phase == tunable.phase)
      rows.push_back(&tunable);
  return rows;
}

bool Tunable::isLegal(int value) const {
  return upTo ? value >= 0 && value <= upTo
              : value == 0 || std::find(values.begin(), values.end(), value) != values.end();
}

std::string Tunable::valueText(int value) const {
  for (const TunableWord &word : words)
    if (word.value == value)
      return word.word;
  return std::to_string(value);
}

std::string Tunable::valuesText() const {
  if (upTo)
    return fmt::format("a whole number up to {}", upTo);
  std::vector<std::string> texts;
  for (int value : values)
    texts.push_back(words.empty() ? std::to_string(value)
                                  : fmt::format("{} ({})", valueText(value), value));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string shortText(const Config &config) {
  return textOfSet(config, [](const Tunable &, int value) { return value; });
}

std::string wordText(const Config &config) {
  return textOfSet(config,
                   [](const Tunable &tunable, int value) { return tunable.valueText(value); });
}

std::string Config::text() const {
  std::string out;
  for (const Tunable &tunable : tunables())
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", tunable.name, tunable.get(*this));
  return out;
}

Result<Config> Config::parse(const std::string &text) {
  Config config;
  std::set<const Tunable *> seen;
  constexpr std::string_view kSeparators = " \t\n,";
  std::string_view rest = text;
  while (true) {
    size_t begin = rest.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos)
      return config;
    rest.remove_prefix(begin);
    std::string_view item = rest.substr(0, rest.find_first_of(kSeparators));
    rest.remove_prefix(item.size());

    size_t equals = item.find('=');
    if (equals == std::string_view::npos)
      return fail(ErrorKind::Usage, fmt::format("config: '{}' is not NAME=VALUE", item));
    std::string_view name = item.substr(0, equals);
    const Tunable *tunable = findTunable(name);
    if (!tunable)
      return fail(ErrorKind::Usage,
                  fmt::format("config: no tunable is called '{}'; known: {}", name, knownNames()));
    if (!seen.insert(tunable).second)
      return fail(ErrorKind::Usage, fmt::format("config: '{}' is given twice", name));
    WINNOW_TRY(int value, readValue(*tunable, item.substr(equals + 1)));
    tunable->set(config, value);
  }
}

Status Config::check() const {
  for (const Tunable &tunable : tunables())
    if (int value = tunable.get(*this); !tunable.isLegal(value))
      return fail(ErrorKind::Usage,
                  fmt::format("{}={} is no legal tunable: it may be {}, or 0 for the default",
                              tunable.name, value, tunable.valuesText()));
  return {};
}

} // namespace winnow
