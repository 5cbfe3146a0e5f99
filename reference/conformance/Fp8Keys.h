// Keys and values of 16 bits as an engine stores them in fp8: a factor per key/value head that
// brings the head's largest number to the largest of fp8.
#pragma once
#include "reference/Reference.h"

namespace winnow {

/// Puts an e4m3 element into each word of `k` and `v`, [problem.cuK.back(), kv_heads, dim] of the
/// problem's dtype on entry, and the factors into the problem, whose keys are fp8.
void storeAsFp8(reference::Problem &problem, uint16_t *k, uint16_t *v);

} // namespace winnow
