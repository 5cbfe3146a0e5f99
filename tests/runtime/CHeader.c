/* winnow.h must be plain C: this file is compiled as C99 and linked against the shared library
 * alone. */
#include "runtime/api/winnow.h"
#include <stdio.h>

int main(void) {
  winnow_engine_options options = {0};
  winnow_engine *engine = NULL;
  options.struct_size = sizeof(options);
  options.driver_path = "/nonexistent/libcuda.so.1";
  if (winnow_engine_create(&options, &engine) != WINNOW_DEVICE_FAILED || engine != NULL)
    return 1;
  printf("%s: %s\n", winnow_version(), winnow_last_error());
  return 0;
}
