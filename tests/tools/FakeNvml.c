/* NVML of a made-up GPU, for tests without one: 1410 MHz, 345.678 W, driver 999.01. Found by its
 * name where its folder is on the library path. */
#include <string.h>

/* NOLINTBEGIN(readability-identifier-naming): NVML's names */

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  static int handle;
  *device = &handle;
  return strncmp(uuid, "GPU-", 4) != 0;
}
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *megahertz) {
  *megahertz = clock == 1 ? 1410 : clock == 2 ? 2619 : 0; /* NVML_CLOCK_SM, NVML_CLOCK_MEM */
  return device == 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
  *milliwatts = 345678;
  return device == 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
  strncpy(text, "999.01", size);
  return 0;
}
/* NOLINTEND(readability-identifier-naming) */
