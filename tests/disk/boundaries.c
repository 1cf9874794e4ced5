/* Preloaded into a test's process: every call that changes what is on disk below one directory is a boundary, and the
 * process is killed at the one that the test has chosen. What LevelDB and the voting record do is met where they meet
 * the system, in whatever thread.
 *
 *   boundaries_arm(directory, number, mode)   kill ahead of boundary `number` (from 1; 0: never)
 *   boundaries_passed()                       how many there were since
 *   boundaries_end()                          die now, as the mode says
 *
 * mode 0, kill:  the process dies, the page cache survives.
 * mode 1, half:  as 0, and of a write its first half is done.
 * mode 2, power: the process dies and of every file all bytes beyond its last sync are gone.
 * mode 3, torn:  as 2, but the files keep their lengths: of those bytes the first half is there, and the others read as
 *                zeros from a sector on, as a file system leaves them that notes lengths before contents.
 * mode 4, error: the process lives on, the call fails with EIO.
 * mode 5, full:  as 4 with ENOSPC.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KILL, HALF, POWER, TORN, FAIL, FULL };
enum { FILES_MAX = 4096, PATH_BYTES = 4096, SECTOR_BYTES = 512 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char directory[PATH_BYTES];
static long chosen, passed;
static int mode;
static struct { dev_t dev; ino_t ino; off_t length; } synced[FILES_MAX];
static int synced_count;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static off_t *synced_length(const struct stat *status) {
    for (int i = 0; i < synced_count; i++)
        if (synced[i].dev == status->st_dev && synced[i].ino == status->st_ino) return &synced[i].length;
    if (synced_count == FILES_MAX) abort();
    synced[synced_count].dev = status->st_dev;
    synced[synced_count].ino = status->st_ino;
    synced[synced_count].length = 0;
    return &synced[synced_count++].length;
}

static void for_each_file(const char *path, void (*act)(const char *, const struct stat *)) {
    DIR *stream = opendir(path);
    if (!stream) return;
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char below[PATH_BYTES];
        struct stat status;
        if (snprintf(below, sizeof below, "%s/%s", path, entry->d_name) >= (int)sizeof below) abort();
        if (lstat(below, &status)) continue;
        if (S_ISDIR(status.st_mode)) for_each_file(below, act);
        else if (S_ISREG(status.st_mode)) act(below, &status);
    }
    closedir(stream);
}

static void take_as_synced(const char *path, const struct stat *status) {
    (void)path;
    *synced_length(status) = status->st_size;
}

static void cut(const char *path, const struct stat *status) {
    off_t length = *synced_length(status);
    if (length < status->st_size && truncate(path, length)) abort();
}

static void tear(const char *path, const struct stat *status) {
    off_t length = *synced_length(status), size = status->st_size;
    if (length >= size) return;
    off_t there = (length + (size - length) / 2) / SECTOR_BYTES * SECTOR_BYTES;
    if (truncate(path, there < length ? length : there) || truncate(path, size)) abort();
}

void boundaries_arm(const char *below, long number, int how) {
    pthread_mutex_lock(&lock);
    if (!realpath(below, directory)) abort();
    chosen = number;
    passed = 0;
    mode = how;
    synced_count = 0;
    for_each_file(directory, take_as_synced);
    pthread_mutex_unlock(&lock);
}

long boundaries_passed(void) { return passed; }

static void die(void) {
    if (mode == POWER) for_each_file(directory, cut);
    if (mode == TORN) for_each_file(directory, tear);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

void boundaries_end(void) {
    pthread_mutex_lock(&lock);
    die();
}

/* Whether the call is to fail. Does not return where the process is to die, but for a write that is done by half. */
static int boundary(const char *path, int is_write) {
    if (!directory[0] || strncmp(path, directory, strlen(directory))) return 0;
    pthread_mutex_lock(&lock);
    int now = ++passed == chosen;
    if (now && mode != FAIL && mode != FULL && !(mode == HALF && is_write)) die();
    pthread_mutex_unlock(&lock);
    if (now && mode >= FAIL) errno = mode == FULL ? ENOSPC : EIO;
    return now;
}

static int descriptor(int file, int is_write) {
    char link[64], path[PATH_BYTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = directory[0] ? readlink(link, path, sizeof path - 1) : -1;
    if (length < 0) return 0;
    path[length] = 0;
    return boundary(path, is_write);
}

static int named(const char *path) {
    char whole[PATH_BYTES];
    if (!directory[0]) return 0;
    if (path[0] == '/') return boundary(path, 0);
    if (!getcwd(whole, sizeof whole - strlen(path) - 2)) return 0;
    strcat(strcat(whole, "/"), path);
    return boundary(whole, 0);
}

static void note_sync(int file) {
    struct stat status;
    if (!directory[0] || fstat(file, &status)) return;
    pthread_mutex_lock(&lock);
    *synced_length(&status) = status.st_size;
    pthread_mutex_unlock(&lock);
}

ssize_t write(int file, const void *bytes, size_t count) {
    if (descriptor(file, 1)) {
        if (mode >= FAIL) return -1;
        REAL(write)(file, bytes, count / 2);
        die();
    }
    return REAL(write)(file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    if (descriptor(file, 1)) {
        if (mode >= FAIL) return -1;
        REAL(pwrite)(file, bytes, count / 2, offset);
        die();
    }
    return REAL(pwrite)(file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    if (descriptor(file, 1)) {
        if (mode >= FAIL) return -1;
        REAL(pwrite64)(file, bytes, count / 2, offset);
        die();
    }
    return REAL(pwrite64)(file, bytes, count, offset);
}

int fsync(int file) {
    if (descriptor(file, 0)) return -1;
    int result = REAL(fsync)(file);
    if (!result) note_sync(file);
    return result;
}

int fdatasync(int file) {
    if (descriptor(file, 0)) return -1;
    int result = REAL(fdatasync)(file);
    if (!result) note_sync(file);
    return result;
}

int ftruncate(int file, off_t length) { return descriptor(file, 0) ? -1 : REAL(ftruncate)(file, length); }
int ftruncate64(int file, off64_t length) { return descriptor(file, 0) ? -1 : REAL(ftruncate64)(file, length); }
int rename(const char *from, const char *to) { return named(to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return named(path) ? -1 : REAL(unlink)(path); }
