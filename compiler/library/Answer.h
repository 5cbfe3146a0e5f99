// How the functions of a winnow_compiler answer: bytes or an error's sentence through the sink, a
// status to the caller, and no exception.
#pragma once
#include "runtime/Error.h"
#include "runtime/api/winnow.h"
#include <exception>

namespace winnow {

/// Runs `body`, which returns a Result or a Status; an exception becomes an error of it.
template <typename Body> auto caught(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception &error) {
    return fail(ErrorKind::CompileFailed,
                std::string("out of memory or internal error: ") + error.what());
  }
}

/// Runs `body`, which returns a Status, and tells the sink its error alone.
template <typename Body> int complain(winnow_sink sink, void *context, Body body) {
  const Status status = caught(body);
  if (status)
    return WINNOW_OK;
  sink(context, status.error().message.data(), status.error().message.size());
  return static_cast<int>(status.error().kind);
}

/// Runs `body`, which returns a Result of bytes, and tells the sink these or its error.
template <typename Body> int answer(winnow_sink sink, void *context, Body body) {
  return complain(sink, context, [&]() -> Status {
    WINNOW_TRY(const std::string bytes, body());
    sink(context, bytes.data(), bytes.size());
    return {};
  });
}

} // namespace winnow
