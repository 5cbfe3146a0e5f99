// A thread of control with a stack of its own, changed over to by hand (POSIX ucontext to begin,
// _setjmp and _longjmp from then on, which make no system call).
#pragma once
#include <csetjmp>
#include <cstddef>
#include <ucontext.h>

namespace winnow::emulator {

class Fiber {
public:
  /// The next change to this fibre begins `entry(argument)` on the given stack. `entry` must not
  /// return.
  void prepare(unsigned char *stack, size_t bytes, void (*entry)(void *), void *argument);
  /// Leaves `from`, which is running, for this fibre; returns when somebody changes back.
  void enter(Fiber &from);

private:
  static void begin(unsigned high, unsigned low);
  ucontext_t context{};
  jmp_buf place{};
  void (*entry)(void *) = nullptr;
  void *argument = nullptr;
  bool fresh = false;
};

} // namespace winnow::emulator
