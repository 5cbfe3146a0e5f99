// Settings of the address sanitizer for harnesses with LLVM in them. Our own part of the compiler
// is instrumented, LLVM and MLIR are not: memory that is shared by both would be reported wherever
// only one side keeps the books. LLVM's allocators poison the free rest of their slabs in their
// headers, so in our copies of these functions alone; poisoning by programs is therefore off. What
// is left finds every fault of heap and stack that our own code makes.
extern "C" const char *__asan_default_options();

extern "C" const char *__asan_default_options() {
  return "allow_user_poisoning=0:detect_container_overflow=0";
}
