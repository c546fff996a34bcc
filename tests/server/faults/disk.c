/* A disk that can be full, or stand still: preloaded into a daemon under test.

   SHIM_ROOT is the folder that lies on that disk. While the file SHIM_CONTROL/full exists, nothing can be written below
   it; while SHIM_CONTROL/still exists, whoever waits for the disk waits on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int asked(const char *what) {
  char path[4096];
  const char *control = getenv("SHIM_CONTROL");
  if (!control) return 0;
  snprintf(path, sizeof path, "%s/%s", control, what);
  return access(path, F_OK) == 0;
}

static int below(int fd) {
  char link[64], path[4096];
  const char *root = getenv("SHIM_ROOT");
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0 || !root) return 0;
  path[size] = 0;
  return strncmp(path, root, strlen(root)) == 0;
}

static int full(int fd) {
  if (!asked("full") || !below(fd)) return 0;
  errno = ENOSPC;
  return 1;
}

static void wait_for_disk(int fd) {
  while (asked("still") && below(fd)) usleep(10000);
}

#define REAL(name) (real ? real : (real = dlsym(RTLD_NEXT, name)))

ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*real)(int, const void *, size_t);
  return full(fd) ? -1 : REAL("write")(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  return full(fd) ? -1 : REAL("pwrite")(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  return full(fd) ? -1 : REAL("pwrite64")(fd, data, size, at);
}

int fsync(int fd) {
  static int (*real)(int);
  wait_for_disk(fd);
  return full(fd) ? -1 : REAL("fsync")(fd);
}

int fdatasync(int fd) {
  static int (*real)(int);
  wait_for_disk(fd);
  return full(fd) ? -1 : REAL("fdatasync")(fd);
}
