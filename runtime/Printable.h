// Text from outside (files, paths, other programs) as a terminal may show it: everything that
// Winnow prints for people goes through here.
#pragma once
#include <string>
#include <string_view>

namespace winnow {

/// `text` with every control character and every byte that is no UTF-8 written as "\x1b": neither
/// moves a cursor, hides a line or pretends to be another one. Line feeds and tabs stay where
/// `keepLines`.
std::string printable(std::string_view text, bool keepLines = true);

} // namespace winnow
