// The fake driver's library, for the tests of this folder that open it.
#pragma once

namespace winnow::test {

inline constexpr const char *kFake = WINNOW_FAKE_CUDA;

} // namespace winnow::test
