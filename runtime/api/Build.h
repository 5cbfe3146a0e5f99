// Which build of Winnow this is: libwinnow.so and its compiler library exchange structs and program
// images, so both must have the same runtime inside.
#pragma once

namespace winnow {

/// 64 hexadecimal digits: of the sources of runtime/, made when they are built.
const char *runtimeDigest();

} // namespace winnow
