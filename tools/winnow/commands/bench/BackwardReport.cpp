// Lines and JSON of `winnow bench backward`.
#include "tools/winnow/commands/bench/BackwardReport.h"
#include "tools/winnow/commands/bench/PeerLines.h"
#include <fmt/format.h>

namespace winnow {

using nlohmann::json;

namespace {

std::string regimeText(const RegimeTiming &regime, const char *name) {
  return fmt::format("{:.3f} ms {} (quartiles {:.3f} to {:.3f}{})", regime.medianMs, name,
                     regime.lowerMs, regime.upperMs,
                     regime.clock ? fmt::format(", {} MHz", regime.clock) : "");
}

json regimeJson(const RegimeTiming &regime) {
  return {{"median_ms", regime.medianMs},
          {"quartiles_ms", {regime.lowerMs, regime.upperMs}},
          {"sm_mhz", regime.clock}};
}

std::string peerText(const BackwardPeer &peer, const BackwardTiming &ours) {
  std::string text;
  auto add = [&](double ms, const RegimeTiming &regime, const char *what) {
    if (ms > 0)
      text += fmt::format("{}{:.3f} ms {}: ours {:.2f} of it", text.empty() ? "" : "; ", ms, what,
                          regime.medianMs / ms);
  };
  add(peer.pacedMs, ours.paced, "paced");
  add(peer.ms, ours.backToBack, "back to back");
  add(peer.bothPacedMs, ours.bothPaced, "with attention, paced");
  add(peer.bothMs, ours.bothBackToBack, "with attention, back to back");
  return fmt::format("    {:<24} {}, as given\n", peer.name, text);
}

} // namespace

Result<std::vector<BackwardPeer>> BackwardPeer::load(const std::string &path) {
  std::vector<BackwardPeer> peers;
  auto read = [&](JsonFields<json> &fields) -> std::string {
    BackwardPeer peer;
    peer.name = fields.text("name");
    peer.seq = fields.whole("seq");
    peer.ms = fields.number("ms");
    peer.pacedMs = fields.number("paced_ms");
    peer.bothMs = fields.number("both_ms");
    peer.bothPacedMs = fields.number("both_paced_ms");
    if (peer.name.empty() || peer.seq < 1 || !(peer.ms > 0))
      return "name, seq and ms are needed, the numbers above 0";
    peers.push_back(std::move(peer));
    return {};
  };
  WINNOW_CHECK(eachPeerLine(path, "name, seq and ms", read));
  return peers;
}

std::string measurementText(const BackwardMeasurement &m, const std::vector<BackwardPeer> &peers) {
  const BackwardTiming &t = m.timing;
  std::string words = fmt::format("backward {} tokens", m.tokens);
  if (m.topk)
    words += fmt::format(", top-{}, L = {}", m.topk, m.overlap);
  std::string text = fmt::format(
      "{}, {}: {}, {}, {:.0f} and {:.0f} useful TFLOP/s, scratch {:.2f} GB, {}\n", words, m.variant,
      regimeText(t.paced, "paced"), regimeText(t.backToBack, "back to back"), m.tflops(t.paced),
      m.tflops(t.backToBack), static_cast<double>(t.scratchBytes) * 1e-9,
      !m.checked        ? "not checked"
      : t.fault.empty() ? "ok"
                        : "WRONG: " + t.fault);
  text += fmt::format("    with attention: {}, {}\n", regimeText(t.bothPaced, "paced"),
                      regimeText(t.bothBackToBack, "back to back"));
  for (const auto &[name, time] : t.kernels)
    text += fmt::format("    {:<24} {:.3f} ms\n", name, time);
  for (const BackwardPeer &peer : peers)
    if (peer.seq == m.tokens)
      text += peerText(peer, t);
  return text;
}

json measurementJson(const BackwardMeasurement &m) {
  const BackwardTiming &t = m.timing;
  json entry{{"variant", m.variant},
             {"tokens", m.tokens},
             {"topk", m.topk},
             {"overlap", m.overlap},
             {"paced", regimeJson(t.paced)},
             {"back_to_back", regimeJson(t.backToBack)},
             {"both_paced", regimeJson(t.bothPaced)},
             {"both_back_to_back", regimeJson(t.bothBackToBack)},
             {"tflops", m.tflops(t.backToBack)},
             {"scratch_bytes", t.scratchBytes},
             {"check", !m.checked        ? "not checked"
                       : t.fault.empty() ? "ok"
                                         : t.fault}};
  for (const auto &[name, time] : t.kernels)
    entry["kernel_ms"][name] = time;
  return entry;
}

json peerJson(const BackwardPeer &peer) {
  return {{"name", peer.name},      {"seq", peer.seq},
          {"ms", peer.ms},          {"paced_ms", peer.pacedMs},
          {"both_ms", peer.bothMs}, {"both_paced_ms", peer.bothPacedMs}};
}

} // namespace winnow
