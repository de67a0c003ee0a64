/* Lets a program fail at one of its writing system calls on files below a folder. Preloaded, it counts the calls of the C
   library that Python and the libraries written in C make; these variables say what happens, none of them: nothing.
   FAULT_IN   the folder
   FAULT_AT   the number of the call, from 1; 0: only count
   FAULT      kill; halfway: kill when half of what is written has been; otherwise an errno: the call fails with it, and
              if it is ENOSPC all later ones that need room
   FAULT_LIST a file for the name and the path of each call */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static const char *folder, *kind;
static int at, count, listing = -1;

static int is_asked(void) {
    if (!folder && (folder = getenv("FAULT_IN"))) {
        const char *list = getenv("FAULT_LIST"), *number = getenv("FAULT_AT");
        kind = getenv("FAULT");
        at = number && kind ? atoi(number) : 0;
        if (list) listing = open(list, O_WRONLY | O_CREAT | O_APPEND, 0600);
    }
    return folder != NULL;
}

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || !path[length]);
}

static const char *absolute(int directory, const char *path, char *whole) {
    char base[PATH_MAX], link[64];
    ssize_t length;
    if (path[0] == '/') return path;
    snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
    if ((length = readlink(link, base, sizeof base - 1)) < 0) return path;
    base[length] = 0;
    if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return path;
    return whole;
}

static const char *of_file(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Return -1 and set errno if the call fails. `bytes`, `size`: what it writes to the file. */
static int fails(const char *name, const char *path, int file, const void *bytes, size_t size) {
    if (!is_below(path)) return 0;
    count++;
    if (listing >= 0) dprintf(listing, "%s %s\n", name, path + strlen(folder));
    if (!at || count < at) return 0;
    if (count == at && (!strcmp(kind, "kill") || !strcmp(kind, "halfway"))) {
        if (*kind == 'h' && bytes) REAL(write)(file, bytes, size / 2);
        kill(getpid(), SIGKILL);
    }
    errno = atoi(kind);
    if (count == at) return -1;
    return errno == ENOSPC && !strstr("unlink rmdir truncate rename", name) ? -1 : 0;
}

#define IN_FOLDER(name, directory, path) \
    char whole[PATH_MAX]; \
    if (is_asked() && fails(name, absolute(directory, path, whole), -1, NULL, 0)) return -1
#define OF_FILE(name, file, bytes, size) \
    char path[PATH_MAX]; \
    if (is_asked() && fails(name, of_file(file, path), file, bytes, size)) return -1

static mode_t mode_of(int flags, va_list more) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; }
static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define OPEN(open) \
    int open(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        if (writes(flags)) { IN_FOLDER("open", AT_FDCWD, path); } \
        return REAL(open)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(openat) \
    int openat(int directory, const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        if (writes(flags)) { IN_FOLDER("open", directory, path); } \
        return REAL(openat)(directory, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *bytes, size_t size) {
    OF_FILE("write", file, bytes, size);
    return REAL(write)(file, bytes, size);
}

#define PWRITE(pwrite, offset_t) \
    ssize_t pwrite(int file, const void *bytes, size_t size, offset_t offset) { \
        OF_FILE("pwrite", file, NULL, 0); \
        return REAL(pwrite)(file, bytes, size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SYNC(fsync) \
    int fsync(int file) { \
        OF_FILE("sync", file, NULL, 0); \
        return REAL(fsync)(file); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(truncate, offset_t) \
    int truncate(const char *path, offset_t size) { \
        IN_FOLDER("truncate", AT_FDCWD, path); \
        return REAL(truncate)(path, size); \
    } \
    int f##truncate(int file, offset_t size) { \
        OF_FILE("truncate", file, NULL, 0); \
        return REAL(f##truncate)(file, size); \
    }
TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)

int rename(const char *from, const char *to) {
    IN_FOLDER("rename", AT_FDCWD, to);
    return REAL(rename)(from, to);
}

int renameat(int from_directory, const char *from, int directory, const char *to) {
    IN_FOLDER("rename", directory, to);
    return REAL(renameat)(from_directory, from, directory, to);
}

int unlink(const char *path) {
    IN_FOLDER("unlink", AT_FDCWD, path);
    return REAL(unlink)(path);
}

int unlinkat(int directory, const char *path, int flags) {
    IN_FOLDER("unlink", directory, path);
    return REAL(unlinkat)(directory, path, flags);
}

int rmdir(const char *path) {
    IN_FOLDER("rmdir", AT_FDCWD, path);
    return REAL(rmdir)(path);
}

int mkdir(const char *path, mode_t mode) {
    IN_FOLDER("mkdir", AT_FDCWD, path);
    return REAL(mkdir)(path, mode);
}

int mkdirat(int directory, const char *path, mode_t mode) {
    IN_FOLDER("mkdir", directory, path);
    return REAL(mkdirat)(directory, path, mode);
}
