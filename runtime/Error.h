// The error every public function of Winnow returns: one sentence and the exit code that the
// command line gives it. No exceptions cross this interface; a function that can fail returns
// Result<T>.
#pragma once
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace winnow {

/// Exit codes of the command line (docs/command-line.md) and, with the same values, error kinds
/// of the C API.
enum class ErrorKind {
  WrongResult = 1,   ///< a check against the reference failed
  Usage = 2,         ///< bad flag, bad input file, bad shape, broken method text
  Unsupported = 3,   ///< a legal request that this build or this GPU cannot serve
  CompileFailed = 4, ///< MLIR or NVRTC refused
  DeviceFailed = 5,  ///< no driver, no device, or a driver call failed
  NotReady =
      6, ///< library only: the kernel was not prepared for this device (launch never compiles)
};

struct Error {
  ErrorKind kind = ErrorKind::Usage;
  std::string message; ///< one clear sentence: what, where, what to do
};

template <typename T> using Result = tl::expected<T, Error>;
using Status = tl::expected<void, Error>;

/// Sets `target`, a variable or the declaration of one, to the value of a Result; an error is
/// returned from the calling function. Several statements: a branch of an if needs braces.
#define WINNOW_TRY(target, expression) WINNOW_TRY_AT(target, expression, __LINE__)
#define WINNOW_TRY_AT(target, expression, line) WINNOW_TRY_AS(target, expression, line)
#define WINNOW_TRY_AS(target, expression, line)                                                    \
  auto result_##line = (expression);                                                               \
  if (!result_##line)                                                                              \
    return tl::unexpected(result_##line.error());                                                  \
  target = std::move(*result_##line)
/// The same of a Status.
#define WINNOW_CHECK(expression)                                                                   \
  do {                                                                                             \
    const Status &status_ = (expression);                                                          \
    if (!status_)                                                                                  \
      return tl::unexpected(status_.error());                                                      \
  } while (false)

inline tl::unexpected<Error> fail(ErrorKind kind, std::string message) {
  return tl::unexpected<Error>(Error{kind, std::move(message)});
}

} // namespace winnow
