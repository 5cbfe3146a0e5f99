/* Loaded before the C library (LD_PRELOAD): appends a line to the file SYNC_WATCH_LOG for each
 * rename, "synced NAME" where the file under the old name was the last one that fsync was called
 * for, else "lost NAME". Forwards every call. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): the C library's switch */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static __thread struct stat last; /* file that this thread has synced */

int fsync(int file) {
  int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  int result = next(file);
  if (result == 0)
    (void)fstat(file, &last);
  return result;
}

int rename(const char *from, const char *to) {
  int (*next)(const char *, const char *) =
      (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
  struct stat now;
  int known = stat(from, &now) == 0 && now.st_ino == last.st_ino && now.st_dev == last.st_dev;
  const char *log = getenv("SYNC_WATCH_LOG");
  FILE *lines = log ? fopen(log, "a") : NULL;
  if (lines) {
    fprintf(lines, "%s %s\n", known ? "synced" : "lost",
            strrchr(to, '/') ? strrchr(to, '/') + 1 : to);
    fclose(lines);
  }
  return next(from, to);
}
