// See Fiber.h.
#include "emulator/Fiber.h"
#include <cstdint>

namespace winnow::emulator {

void Fiber::begin(unsigned high, unsigned low) { // makecontext passes ints only
  auto *self = reinterpret_cast<Fiber *>(static_cast<uintptr_t>(high) << 32 | low);
  self->entry(self->argument);
}

void Fiber::prepare(unsigned char *stack, size_t bytes, void (*begins)(void *), void *with) {
  entry = begins;
  argument = with;
  fresh = true;
  ::getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  auto self = reinterpret_cast<uintptr_t>(this);
  ::makecontext(&context, reinterpret_cast<void (*)()>(begin), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
}

void Fiber::enter(Fiber &from) {
  if (_setjmp(from.place) != 0)
    return;
  if (!fresh)
    _longjmp(place, 1);
  fresh = false;
  ::setcontext(&context);
}

} // namespace winnow::emulator
