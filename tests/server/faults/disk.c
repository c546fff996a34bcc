/* A disk that can be full, slow, or stand still: preloaded into a daemon under test.

   SHIM_ROOT is the folder that lies on that disk. While the file SHIM_CONTROL/full exists, nothing can be written below
   it; while SHIM_CONTROL/slow exists, each write and each wait for the disk takes WAIT_US longer; while
   SHIM_CONTROL/still exists, whoever waits for the disk waits on. What such a file holds is the part of a path that
   it is about; an empty one is about all of them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAIT_US 20000

/* Whether the disk is asked to be so for an open file. */
static int asked(const char *what, int fd) {
  char path[4096], link[64], part[256] = "";
  const char *control = getenv("SHIM_CONTROL"), *root = getenv("SHIM_ROOT");
  if (!control || !root) return 0;
  snprintf(path, sizeof path, "%s/%s", control, what);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t size = read(file, part, sizeof part - 1);
  close(file);
  part[size > 0 ? size : 0] = 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return strncmp(path, root, strlen(root)) == 0 && strstr(path + strlen(root), part) != NULL;
}

static int full(int fd) {
  int before = errno, is = asked("full", fd);
  errno = is ? ENOSPC : before;
  return is;
}

static void take_time(int fd) {
  if (asked("slow", fd)) usleep(WAIT_US);
}

static void wait_for_disk(int fd) {
  take_time(fd);
  while (asked("still", fd)) usleep(10000);
}

#define REAL(name) (real ? real : (real = dlsym(RTLD_NEXT, name)))

ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*real)(int, const void *, size_t);
  take_time(fd);
  return full(fd) ? -1 : REAL("write")(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  static ssize_t (*real)(int, const struct iovec *, int);
  take_time(fd);
  return full(fd) ? -1 : REAL("writev")(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  take_time(fd);
  return full(fd) ? -1 : REAL("pwrite")(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  take_time(fd);
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
