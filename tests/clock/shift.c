/* Preloaded: moves the wall clock by SHIFT_SECONDS, for this process and all that it starts, whatever environment they are
 * given. File times move with it; the monotonic clock stays. (libfaketime 0.9.10 breaks Python's time.sleep.) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NEXT(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))
#define SINCE_1970 1000000000 /* a deadline of more seconds is one of the wall clock */

static long shift(void) {
    static long seconds;
    static int known;
    if (!known) {
        const char *text = getenv("SHIFT_SECONDS");
        seconds = text != NULL ? atol(text) : 0;
        known = 1;
    }
    return seconds;
}

/* -- reading the clock -- */

static int machine_clock(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) real = NEXT(int, "clock_gettime", clockid_t, struct timespec *);
    return real(clock, now);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = machine_clock(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (into != NULL) *into = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    if (base != TIME_UTC) return 0;
    clock_gettime(CLOCK_REALTIME, now);
    return base;
}

/* -- deadlines that were computed from it -- */

static struct timespec of_the_machine(const struct timespec *deadline) {
    struct timespec moved = *deadline;
    if (moved.tv_sec > SINCE_1970) moved.tv_sec -= shift();
    return moved;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict deadline) {
    struct timespec moved = of_the_machine(deadline);
    return NEXT(int, "sem_timedwait", sem_t *, const struct timespec *)(semaphore, &moved);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    struct timespec moved = of_the_machine(deadline);
    return NEXT(int, "pthread_cond_timedwait", pthread_cond_t *, pthread_mutex_t *, const struct timespec *)(
        condition, mutex, &moved);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict deadline) {
    struct timespec moved = of_the_machine(deadline);
    return NEXT(int, "pthread_mutex_timedlock", pthread_mutex_t *, const struct timespec *)(mutex, &moved);
}

/* -- times of files -- */

static int moved(int result, struct stat *facts) {
    if (result == 0) {
        facts->st_mtim.tv_sec += shift();
        facts->st_ctim.tv_sec += shift();
        facts->st_atim.tv_sec += shift();
    }
    return result;
}

int fstatat(int folder, const char *restrict path, struct stat *restrict facts, int flags) {
    return moved((int)syscall(SYS_newfstatat, folder, path, facts, flags), facts);
}
int stat(const char *restrict path, struct stat *restrict facts) { return fstatat(AT_FDCWD, path, facts, 0); }
int lstat(const char *restrict path, struct stat *restrict facts) {
    return fstatat(AT_FDCWD, path, facts, AT_SYMLINK_NOFOLLOW);
}
int fstat(int file, struct stat *facts) { return moved((int)syscall(SYS_fstat, file, facts), facts); }

/* On x86-64 both forms have one layout. */
int fstatat64(int folder, const char *restrict path, struct stat64 *restrict facts, int flags) {
    return fstatat(folder, path, (struct stat *)facts, flags);
}
int stat64(const char *restrict path, struct stat64 *restrict facts) { return stat(path, (struct stat *)facts); }
int lstat64(const char *restrict path, struct stat64 *restrict facts) { return lstat(path, (struct stat *)facts); }
int fstat64(int file, struct stat64 *facts) { return fstat(file, (struct stat *)facts); }

int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    struct timespec both[2];
    if (times == NULL) return (int)syscall(SYS_utimensat, folder, path, NULL, flags);
    for (int i = 0; i < 2; i++) {
        both[i] = times[i];
        if (both[i].tv_nsec != UTIME_NOW && both[i].tv_nsec != UTIME_OMIT) both[i].tv_sec -= shift();
    }
    return (int)syscall(SYS_utimensat, folder, path, both, flags);
}

/* -- what this process starts -- */

/* Byte code lies in a folder of its own: it carries the times of its sources, which are moved here and nowhere else. */
static const char *const handed_on[] = {"LD_PRELOAD", "SHIFT_SECONDS", "PYTHONPYCACHEPREFIX"};
#define HANDED_ON (sizeof handed_on / sizeof *handed_on)

static int is_handed_on(const char *entry) {
    for (size_t i = 0; i < HANDED_ON; i++) {
        size_t length = strlen(handed_on[i]);
        if (strncmp(entry, handed_on[i], length) == 0 && entry[length] == '=') return 1;
    }
    return 0;
}

int execve(const char *path, char *const arguments[], char *const environment[]) {
    static char entries[HANDED_ON][4096];
    size_t count = 0, kept = 0;
    while (environment != NULL && environment[count] != NULL) count++;
    char *with[count + HANDED_ON + 1];
    for (size_t i = 0; i < count; i++)
        if (!is_handed_on(environment[i])) with[kept++] = environment[i];
    for (size_t i = 0; i < HANDED_ON; i++) {
        const char *value = getenv(handed_on[i]);
        if (value == NULL) continue;
        snprintf(entries[i], sizeof entries[i], "%s=%s", handed_on[i], value);
        with[kept++] = entries[i];
    }
    with[kept] = NULL;
    return NEXT(int, "execve", const char *, char *const[], char *const[])(path, arguments, with);
}
