// arc4random for LLVM's and libstdc++'s archives, which ask the C library for it: glibc has it only
// from 2.36 on, and everything else in them runs on 2.35 (Ubuntu 22.04). Hidden, so that no other
// library of the process gets it. No header that declares it may come in: the declaration would
// make it visible.
#include <sys/random.h>

extern "C" __attribute__((visibility("hidden"))) unsigned arc4random() {
  unsigned value = 0;
  while (getrandom(&value, sizeof(value), 0) != sizeof(value)) // else a signal came in between
    continue;
  return value;
}
