// Files of the source tree that travel inside the compiler as bytes: device headers and built-in
// methods. Nothing has to be found on the user's disk (fault F22).
#pragma once
#include "runtime/EmbeddedFile.h"

namespace winnow {

const std::vector<EmbeddedFile> &embeddedDeviceHeaders(); ///< templates/, in a fixed order
const std::vector<EmbeddedFile> &embeddedMethods(); ///< dialect/methods/, in alphabetical order

/// Digest of the sources that decide what code is generated: part of every cache key, so that a
/// changed compiler never meets the kernels of an older one (fault F09).
const char *generatorDigest();
/// Digest of the device headers, made when they are embedded: no cache hit has to read them.
const char *deviceHeadersDigest();

} // namespace winnow
