// The boundary of the C API, for whatever implements a part of winnow.h: structs of a caller come
// in by their size, exceptions stay on the side where they were thrown, errors become a status and
// a sentence.
#pragma once
#include "runtime/Error.h"
#include "runtime/api/winnow.h"
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fmt/format.h>
#include <stdexcept>
#include <string>

#ifndef WINNOW_VERSION
#define WINNOW_VERSION "unknown"
#endif

namespace winnow {

/// The last error of one thread. A thread that ends destroys it while its other destructors and, in
/// the main thread, the exit handlers are still to come, which may call this library: from then on
/// there is nothing to write to.
class LastError {
public:
  static void set(const std::string &message) {
    if (!isGone)
      own.message = message;
  }
  static const char *text() { return isGone ? "" : own.message.c_str(); }
  ~LastError() { isGone = true; }

private:
  std::string message;
  static thread_local bool isGone;
  static thread_local LastError own;
};
inline thread_local bool LastError::isGone = false;
inline thread_local LastError LastError::own;

/// A text of the host, of which null means none.
inline const char *orEmpty(const char *text) { return text ? text : ""; }

inline winnow_status report(const Error &error) {
  LastError::set(error.message);
  return static_cast<winnow_status>(error.kind);
}

/// What a function of the host threw, as an exception of this library.
struct HostException : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// This library has its own copy of the C++ runtime. An exception that the host's copy raises
/// passes through ours, which ends the process unless ours has raised one before: only then has it
/// filled the table of registers that it restores (libgcc, init_dwarf_reg_size_table).
inline void prepareForExceptions() {
  static const bool done = [] {
    try {
      throw true;
    } catch (bool thrown) {
      return thrown;
    }
  }();
  (void)done;
}

/// Calls a function of the host. It has no business to throw; where it does, the call of this
/// library that led to it fails with a sentence.
template <typename Call> auto callHost(const char *what, Call call) {
  prepareForExceptions();
  std::string thrown;
  try {
    return call();
  } catch (const std::exception &error) {
    thrown = error.what();
  } catch (...) {
    thrown = "something that is no std::exception";
  }
  throw HostException(fmt::format("the host's {} threw an exception: {}", what, thrown));
}

/// Runs `body` (which returns Status) and turns its failure, or any exception, into a status code.
template <typename Body> winnow_status guarded(Body body) noexcept {
  try {
    LastError::set("");
    Status status = body();
    return status ? WINNOW_OK : report(status.error());
  } catch (const HostException &error) {
    return report({ErrorKind::Usage, error.what()});
  } catch (const std::exception &error) {
    try {
      return report({ErrorKind::DeviceFailed,
                     fmt::format("out of memory or internal error: {}", error.what())});
    } catch (...) {
      return WINNOW_DEVICE_FAILED;
    }
  } catch (...) {
    return report({ErrorKind::DeviceFailed, "internal error"});
  }
}

/// The size of each struct in the first release: no caller has a smaller one.
template <typename Struct> constexpr size_t kFirstSize = sizeof(Struct);
template <> inline constexpr size_t kFirstSize<winnow_spec> = offsetof(winnow_spec, value_dim);
template <> inline constexpr size_t kFirstSize<winnow_compiler> = offsetof(winnow_compiler, check);
template <>
inline constexpr size_t kFirstSize<winnow_launch_args> = offsetof(winnow_launch_args, q_stride);
template <>
inline constexpr size_t kFirstSize<winnow_engine_options> =
    offsetof(winnow_engine_options, tuned_files);
constexpr size_t kLargestSize = 4096; ///< far above what any release will have

/// Whether a caller's struct can be read or written: it is there, and its size can be that of some
/// release. Nothing but the size is read.
template <typename Struct> Status hasSize(const Struct *given, const char *what) {
  if (!given)
    return fail(ErrorKind::Usage, fmt::format("{} is null", what));
  if (size_t size = given->struct_size;
      size < kFirstSize<Struct> || size > kLargestSize || size % alignof(Struct) != 0)
    return fail(ErrorKind::Usage,
                fmt::format("{}: struct_size is {}; set it to sizeof the struct, here {}", what,
                            size, sizeof(Struct)));
  return {};
}

/// Copies a caller's struct of any version into ours. Fields that the caller does not have are
/// zero; fields that we do not have must be zero.
template <typename Struct> Result<Struct> adopt(const Struct *given, const char *what) {
  Struct own{};
  WINNOW_CHECK(hasSize(given, what));
  const char *bytes = reinterpret_cast<const char *>(given);
  const size_t size = given->struct_size;
  for (size_t i = sizeof(Struct); i < size; ++i)
    if (bytes[i] != 0)
      return fail(
          ErrorKind::Unsupported,
          fmt::format("{} uses fields of a newer Winnow; this is {}", what, WINNOW_VERSION));
  std::memcpy(static_cast<void *>(&own), bytes, std::min(sizeof(Struct), size));
  own.struct_size = sizeof(Struct);
  return own;
}

/// Fills a caller's struct of any version that hasSize. Fields of a newer caller are zero.
template <typename Struct> void giveBack(const Struct &own, Struct *given) {
  const size_t size = given->struct_size;
  std::memset(static_cast<void *>(given), 0, size);
  std::memcpy(static_cast<void *>(given), &own, std::min(sizeof(own), size));
  given->struct_size = size;
}

} // namespace winnow
