// A compiler library of another build of Winnow: what winnow_compiler_load must refuse.
#include "runtime/api/winnow.h"

extern "C" WINNOW_API const winnow_compiler *winnow_compiler_entry(void) {
  static const winnow_compiler compiler = [] {
    winnow_compiler made{};
    made.struct_size = sizeof(made);
    made.key = made.build = [](void *, const winnow_spec *, winnow_sink, void *) -> int {
      return WINNOW_COMPILE_FAILED;
    };
    made.build_digest = "of another build";
    return made;
  }();
  return &compiler;
}
