// Lines and JSON of `winnow bench decode`.
#include "tools/winnow/commands/bench/DecodeReport.h"
#include "tools/winnow/commands/bench/PeerLines.h"
#include <fmt/format.h>

namespace winnow {

using nlohmann::json;

Result<std::vector<DecodePeer>> DecodePeer::load(const std::string &path) {
  std::vector<DecodePeer> peers;
  auto read = [&](JsonFields<json> &fields) -> std::string {
    DecodePeer peer;
    peer.name = fields.text("name");
    peer.batch = fields.whole("batch");
    peer.seq = fields.whole("seq");
    peer.queries = fields.whole("queries", 1);
    peer.us = fields.number("us");
    if (peer.name.empty() || peer.batch < 1 || peer.seq < 1 || !(peer.us > 0))
      return "name, batch, seq and us are needed, the numbers above 0";
    peers.push_back(std::move(peer));
    return {};
  };
  WINNOW_CHECK(eachPeerLine(path, "name, batch, seq and us", read));
  return peers;
}

std::string shapeText(const DecodeShape &shape) {
  std::string text =
      shape.ragged ? fmt::format("{} x {} to {} keys", shape.batch, shape.keys / 4, shape.keys)
                   : fmt::format("{} x {} keys", shape.batch, shape.keys);
  if (shape.queries > 1)
    text += fmt::format(", {} queries each", shape.queries);
  return text;
}

std::string measurementText(const DecodeMeasurement &m, const std::vector<DecodePeer> &peers) {
  const DecodeTiming &t = m.timing;
  std::string words = m.wholeProgram ? "decode " : "attend ";
  words += shapeText(m.shape) + fmt::format(", top-{}", m.topk);
  if (m.overlap)
    words += fmt::format(", L = {}", m.overlap);
  if (m.denseLength >= 0)
    words += fmt::format(", dense below {} keys", m.denseLength);
  std::string line = fmt::format(
      "{}, {}: {:.1f} us (fastest {:.1f}), floor {:.2f} us = {:.0f} %, {:.2f} TB/s, {} set{}{}{}, "
      "{}\n",
      words, m.variant, t.medianUs, t.fastestUs, m.floorUs(), 100 * m.floorUs() / t.medianUs,
      m.reached(), m.sets, m.sets == 1 ? "" : "s", m.cold ? "" : " (L2 may be warm)",
      t.clock ? fmt::format(", {} MHz", t.clock) : "",
      !m.checked        ? "not checked"
      : t.fault.empty() ? "ok"
                        : "WRONG: " + t.fault);
  for (const auto &[name, time] : t.kernels)
    if (t.kernels.size() > 1)
      line += fmt::format("    {:<24} {:.1f} us\n", name, time);
  for (const DecodePeer &peer : peers)
    if (peer.batch == m.shape.batch && peer.seq == m.shape.keys && peer.queries == m.shape.queries)
      line += fmt::format("    {:<24} {:.1f} us, as given: {:.2f} times ours\n", peer.name, peer.us,
                          peer.us / t.medianUs);
  return line;
}

json measurementJson(const DecodeMeasurement &m) {
  const DecodeTiming &t = m.timing;
  json entry{{"phase", m.wholeProgram ? "all" : "attend"},
             {"variant", m.variant},
             {"batch", m.shape.batch},
             {"seq", m.shape.keys},
             {"ragged", m.shape.ragged},
             {"queries", m.shape.queries},
             {"topk", m.topk},
             {"overlap", m.overlap},
             {"median_us", t.medianUs},
             {"fastest_us", t.fastestUs},
             {"sm_mhz", t.clock},
             {"bytes", t.bytesRead},
             {"floor_us", m.floorUs()},
             {"floor_share", m.floorUs() / t.medianUs},
             {"tb_per_s", m.reached()},
             {"sets", m.sets},
             {"cold", m.cold},
             {"check", !m.checked        ? "not checked"
                       : t.fault.empty() ? "ok"
                                         : t.fault}};
  if (m.denseLength >= 0)
    entry["dense_length"] = m.denseLength;
  for (const auto &[name, time] : t.kernels)
    entry["kernel_us"][name] = time;
  return entry;
}

json peerJson(const DecodePeer &peer) {
  return {{"name", peer.name},
          {"batch", peer.batch},
          {"seq", peer.seq},
          {"queries", peer.queries},
          {"us", peer.us}};
}

} // namespace winnow
