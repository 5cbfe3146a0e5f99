// The picture of a selection: which query block attends to which key block, as an SVG file.
#pragma once
#include "tools/winnow/commands/run/Prompt.h"
#include <string>

namespace winnow {

/// SVG text for one sequence. A cell's shade is the share of (token, select head) pairs of its
/// query block that selected its key block; long sequences are drawn with several blocks per cell.
/// `title` is one line. Needles, if given, are marked on the key axis.
std::string selectionPicture(const reference::Problem &problem, int selectHeads, const int32_t *ids,
                             int sequence, const std::vector<Needle> &needles,
                             const std::string &title);

/// Selected (token, block) pairs over all causal pairs of the batch.
double touchedShare(const reference::Problem &problem, int selectHeads, const int32_t *ids);

} // namespace winnow
