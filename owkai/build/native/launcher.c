/* The single executable file: this program, then a compressed bundle, then a trailer with its position.
 *
 * A start finds the unpacked bundle, checks that it is complete, and executes bin/owkai in it. A missing or incomplete
 * bundle is unpacked first: into a folder that no other account can write to, under a lock, and renamed into place when
 * complete, so that concurrent first starts and a killed start do no harm.
 *
 * The manifest, first in the bundle and a file of the unpacked folder too, has a line for every entry in the order of
 * their contents: "d PATH", "l TARGET<TAB>PATH", "f SIZE SHA256 PATH" or "x SIZE SHA256 PATH" (executable). The trailer
 * holds its SHA-256. A start compares that, and type, size, time, owner and mode of every entry; a folder's time shows
 * added and missing entries. `owkai version --check` reads every byte. The file SETTLED means that everything reached
 * the disk, which can take long on a busy machine: a separate process waits for that and holds the lock meanwhile, so a
 * folder without SETTLED and without a lock dates from before a crash.
 *
 * Linked statically, so that it can report on any Linux what is missing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "sha256.h"

#define MAGIC "OWKAI-1\n"
#define EXIT_UNFIT 2 /* settings or surroundings are wrong; nothing was started (owkai.exits.Exit.SETTINGS) */
#define OURS_ALONE 0700
#define PRIVATE_PREFIX ".new-"
#define LOOSE_PREFIX ".old-"
#define SETTLED "SETTLED"
#define BLOCK (1 << 20)
#define MANIFEST_MOST (64 << 20)

struct trailer { /* the last bytes of the file, little endian as x86-64 is; owkai/build/archive.py writes it */
    uint64_t payload_offset, payload_bytes, manifest_bytes, unpacked_bytes;
    int64_t time; /* of every entry, seconds since 1970 */
    unsigned char manifest_sha256[SHA256_BYTES];
    char name[64];  /* folder of the unpacked bundle */
    char libc[16];  /* the newest symbol version of glibc that the bundle needs, e.g. GLIBC_2.35 */
    char magic[8];
};

struct bundle {
    struct trailer trailer;
    int file;
};

static char refusals[4 * PATH_MAX]; /* why each folder that was tried was refused */

static void print_error(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("owkai: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
}

static int refuse(const char *folder, const char *format, ...) {
    va_list values;
    size_t used = strlen(refusals);
    used += (size_t)snprintf(refusals + used, sizeof refusals - used, "\n  %s: ", folder);
    if (used >= sizeof refusals) return -1;
    va_start(values, format);
    vsnprintf(refusals + used, sizeof refusals - used, format, values);
    va_end(values);
    return -1;
}

/* -- the file itself -- */

static int open_bundle(struct bundle *bundle) {
    struct stat facts;
    bundle->file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (bundle->file < 0 || fstat(bundle->file, &facts) != 0) {
        print_error("/proc/self/exe: %s; this file must be readable, and /proc must be mounted", strerror(errno));
        return -1;
    }
    struct trailer *trailer = &bundle->trailer;
    off_t end = facts.st_size - (off_t)sizeof *trailer;
    if (end < 0 || pread(bundle->file, trailer, sizeof *trailer, end) != (ssize_t)sizeof *trailer ||
        memcmp(trailer->magic, MAGIC, sizeof trailer->magic) != 0 ||
        trailer->payload_offset > (uint64_t)end || trailer->payload_bytes != (uint64_t)end - trailer->payload_offset ||
        trailer->manifest_bytes > MANIFEST_MOST || trailer->name[sizeof trailer->name - 1] != 0 ||
        trailer->libc[sizeof trailer->libc - 1] != 0) {
        print_error("this file is cut short or was changed: compare it with SHA256SUMS and fetch it again");
        return -1;
    }
    return 0;
}

/* Whether the machine's glibc has the symbol version that the bundle needs; its name stands in the library's text. */
static int libc_is_new_enough(const char *wanted) {
    static const char *const places[] = {"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib64/libc.so.6",
                                         "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/libc.so.6", "/lib/libc.so.6"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct stat facts;
        int file = open(places[i], O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        void *text = fstat(file, &facts) == 0 && facts.st_size > 0
                         ? mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0)
                         : MAP_FAILED;
        close(file);
        if (text == MAP_FAILED) continue;
        int found = memmem(text, (size_t)facts.st_size, wanted, strlen(wanted) + 1) != NULL;
        munmap(text, (size_t)facts.st_size);
        if (found) return 1;
        print_error("%s is older than this program needs (%s, that is glibc %s or newer)", places[i], wanted,
            strchr(wanted, '_') + 1);
        return 0;
    }
    if (access("/lib64/ld-linux-x86-64.so.2", X_OK) == 0) return 1; /* elsewhere; the loader will find it or report an error */
    print_error("this machine has no glibc for x86-64, which this program needs (%s or newer)", wanted);
    return 0;
}

/* -- where to unpack -- */

static int owned_well(const struct stat *facts) { return facts->st_uid == geteuid() || facts->st_uid == 0; }

/* Whether only root and this account can replace `path` or a folder above it. */
static int parents_are_safe(const char *folder, const char *path) {
    char whole[PATH_MAX], *slash;
    struct stat facts;
    if (realpath(path, whole) == NULL) return refuse(folder, "%s", strerror(errno));
    while ((slash = strrchr(whole, '/')) != NULL) {
        if (slash == whole) slash[1] = 0; else *slash = 0;
        if (stat(whole, &facts) != 0) return refuse(folder, "%s: %s", whole, strerror(errno));
        /* Where every account has a group of its own, folders are often writable for that group. */
        mode_t others = facts.st_gid == getegid() ? S_IWOTH : S_IWGRP | S_IWOTH;
        int open_to_others = (facts.st_mode & others) != 0 && (facts.st_mode & S_ISVTX) == 0;
        if (open_to_others || !owned_well(&facts))
            return refuse(folder, "other accounts can change the contents of %s", whole);
        if (slash == whole) break;
    }
    return 0;
}

/* `path` and what is missing above it, private; an existing one must be a folder that only this account can write to. */
static int make_private(const char *path) {
    char part[PATH_MAX];
    struct stat facts;
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (mkdir(part, OURS_ALONE) != 0 && errno != EEXIST)
            return refuse(path, "%s: %s", part, strerror(errno));
    }
    if (mkdir(path, OURS_ALONE) != 0 && errno != EEXIST) return refuse(path, "%s", strerror(errno));
    if (lstat(path, &facts) != 0) return refuse(path, "%s", strerror(errno));
    if (!S_ISDIR(facts.st_mode)) return refuse(path, "is not a folder");
    if (!owned_well(&facts)) return refuse(path, "belongs to account %u", (unsigned)facts.st_uid);
    if (facts.st_mode & (S_IWGRP | S_IWOTH)) return refuse(path, "other accounts can write to it; chmod 700");
    return parents_are_safe(path, path);
}

/* -- an unpacked bundle -- */

/* The next line of a manifest and its fields, or 0 at the end; `size` and `path` (and `target` of a link) are set. */
static int next_entry(char **cursor, char *kind, uint64_t *size, char **path, char **target) {
    char *line = *cursor, *end = strchr(line, '\n');
    if (end == NULL || line[0] == 0 || line[1] != ' ') return 0;
    *end = 0;
    *cursor = end + 1;
    *kind = line[0];
    *size = 0;
    *target = NULL;
    *path = line + 2;
    if (*kind == 'l') {
        *target = *path;
        *path = strchr(line, '\t');
        if (*path == NULL) return 0;
        *(*path)++ = 0;
    } else if (*kind == 'f' || *kind == 'x') {
        *size = strtoull(line + 2, path, 10);
        *path += 1 + 2 * SHA256_BYTES + 1;
        if (*path > end) return 0;
    }
    return 1;
}

static int leads_to(int folder, const char *path, const char *target) {
    char found[PATH_MAX];
    ssize_t length = readlinkat(folder, path, found, sizeof found);
    return length == (ssize_t)strlen(target) && memcmp(found, target, (size_t)length) == 0;
}

static int entry_is_right(int folder, const struct trailer *trailer, char kind, uint64_t size, const char *path,
                          const char *target) {
    struct stat facts;
    if (fstatat(folder, path, &facts, AT_SYMLINK_NOFOLLOW) != 0 || !owned_well(&facts)) return 0;
    if (kind == 'l') return S_ISLNK(facts.st_mode) && leads_to(folder, path, target);
    if (facts.st_mtime != trailer->time || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) return 0;
    if (kind == 'd') return S_ISDIR(facts.st_mode);
    return S_ISREG(facts.st_mode) && (uint64_t)facts.st_size == size && (kind != 'x' || (facts.st_mode & S_IXUSR) != 0);
}

/* Whether `folder` holds the complete bundle, unchanged. */
static int is_whole(int folder, const struct trailer *trailer) {
    unsigned char digest[SHA256_BYTES];
    char *manifest = malloc(trailer->manifest_bytes + 1), *cursor = manifest, *path, *target, kind;
    uint64_t size;
    int whole = 0, file = openat(folder, "MANIFEST", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (manifest != NULL && file >= 0 &&
        read(file, manifest, trailer->manifest_bytes) == (ssize_t)trailer->manifest_bytes) {
        manifest[trailer->manifest_bytes] = 0;
        sha256(manifest, trailer->manifest_bytes, digest);
        whole = memcmp(digest, trailer->manifest_sha256, sizeof digest) == 0;
        while (whole && next_entry(&cursor, &kind, &size, &path, &target))
            whole = entry_is_right(folder, trailer, kind, size, path, target);
    }
    if (file >= 0) close(file);
    free(manifest);
    return whole;
}

/* -- unpacking -- */

struct reader { /* the decompressed bundle as a stream */
    ZSTD_DStream *stream;
    ZSTD_inBuffer in;
    int file;
    uint64_t left;
    off_t at;
    unsigned char *buffer;
    size_t expected; /* 0 when the end, with the checksum of all before it, was reached */
};

/* One step of decompression; -1 where the bundle is damaged or at its end. */
static int step(struct reader *reader, ZSTD_outBuffer *out) {
    if (reader->in.pos == reader->in.size && reader->left > 0) {
        size_t wanted = reader->left < BLOCK ? (size_t)reader->left : BLOCK;
        ssize_t got = pread(reader->file, reader->buffer, wanted, reader->at);
        if (got <= 0) return -1;
        reader->at += got;
        reader->left -= (uint64_t)got;
        reader->in = (ZSTD_inBuffer){reader->buffer, (size_t)got, 0};
    }
    size_t before = out->pos, fed = reader->in.pos;
    reader->expected = ZSTD_decompressStream(reader->stream, out, &reader->in);
    if (ZSTD_isError(reader->expected)) return -1;
    return reader->expected != 0 && out->pos == before && reader->in.pos == fed && reader->left == 0 ? -1 : 0;
}

/* Exactly `size` bytes of the bundle; -1 where it is damaged. */
static int take(struct reader *reader, void *into, size_t size) {
    ZSTD_outBuffer out = {into, size, 0};
    while (out.pos < out.size)
        if (step(reader, &out) != 0) return -1;
    return 0;
}

/* Whether what was taken is all there is, and its checksum is right. */
static int is_at_end(struct reader *reader) {
    unsigned char more;
    ZSTD_outBuffer out = {&more, 1, 0};
    while (reader->expected != 0)
        if (step(reader, &out) != 0 || out.pos != 0) return 0;
    return reader->left == 0 && reader->in.pos == reader->in.size;
}

static int write_all(int file, const unsigned char *bytes, size_t size) {
    while (size > 0) {
        ssize_t done = write(file, bytes, size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        bytes += done;
        size -= (size_t)done;
    }
    return 0;
}

static int set_time(int folder, const char *path, int64_t time) {
    struct timespec both[2] = {{time, 0}, {time, 0}};
    return utimensat(folder, path, both, AT_SYMLINK_NOFOLLOW);
}

static int write_file(struct reader *reader, int folder, char kind, uint64_t size, const char *path, int64_t time) {
    static unsigned char block[BLOCK];
    struct timespec both[2] = {{time, 0}, {time, 0}};
    int file = openat(folder, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kind == 'x' ? 0755 : 0644);
    if (file < 0) return -1;
    int result = 0;
    while (size > 0 && result == 0) {
        size_t part = size < sizeof block ? (size_t)size : sizeof block;
        errno = 0;
        result = take(reader, block, part) == 0 && write_all(file, block, part) == 0 ? 0 : -1;
        size -= part;
    }
    if (result == 0) result = futimens(file, both);
    return close(file) == 0 ? result : -1;
}

/* The bundle's entries into the empty `folder`; -1 with errno, which is 0 where the bundle itself is damaged. */
static int unpack_entries(struct reader *reader, int folder, const struct trailer *trailer) {
    unsigned char digest[SHA256_BYTES];
    char *manifest = malloc(trailer->manifest_bytes + 1), *lines, *cursor, *path, *target, kind;
    uint64_t size;
    int result = -1;
    if (manifest == NULL) return -1;
    errno = 0;
    if (take(reader, manifest, trailer->manifest_bytes) != 0) goto done;
    manifest[trailer->manifest_bytes] = 0;
    sha256(manifest, trailer->manifest_bytes, digest);
    if (memcmp(digest, trailer->manifest_sha256, sizeof digest) != 0) goto done;
    int file = openat(folder, "MANIFEST", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0) goto done;
    result = write_all(file, (unsigned char *)manifest, trailer->manifest_bytes);
    if (close(file) != 0) result = -1;
    lines = strdup(manifest);
    if (lines == NULL) result = -1;
    for (cursor = manifest; result == 0 && next_entry(&cursor, &kind, &size, &path, &target);) {
        if (kind == 'd') result = mkdirat(folder, path, 0755);
        else if (kind == 'l') result = symlinkat(target, folder, path);
        else result = write_file(reader, folder, kind, size, path, trailer->time);
    }
    if (result == 0 && !is_at_end(reader)) {
        errno = 0;
        result = -1;
    }
    /* A folder's time is set after its last entry: it then shows whether entries were added or removed. */
    for (cursor = lines; result == 0 && next_entry(&cursor, &kind, &size, &path, &target);)
        if (kind == 'd') result = set_time(folder, path, trailer->time);
    free(lines);
done:
    free(manifest);
    return result;
}

static void remove_tree(int parent, const char *name) {
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = folder < 0 ? NULL : fdopendir(folder);
    struct dirent *entry;
    if (listing == NULL) {
        unlinkat(parent, name, 0);
        return;
    }
    while ((entry = readdir(listing)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(folder, entry->d_name, 0) != 0) remove_tree(folder, entry->d_name);
    }
    closedir(listing);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* What starts that were killed left behind, and other versions that no process runs from. Called under the lock. */
static void remove_leftovers(int base, const char *kept) {
    DIR *listing = fdopendir(openat(base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry;
    if (listing == NULL) return;
    while ((entry = readdir(listing)) != NULL) {
        const char *name = entry->d_name;
        if (strncmp(name, PRIVATE_PREFIX, strlen(PRIVATE_PREFIX)) == 0 ||
            strncmp(name, LOOSE_PREFIX, strlen(LOOSE_PREFIX)) == 0) {
            remove_tree(base, name);
            continue;
        }
        if (name[0] == '.' || strcmp(name, kept) == 0) continue;
        int other = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (other >= 0 && faccessat(other, "MANIFEST", F_OK, 0) == 0 && flock(other, LOCK_EX | LOCK_NB) == 0)
            remove_tree(base, name);
        if (other >= 0) close(other);
    }
    closedir(listing);
}

static int unpack(const struct bundle *bundle, const char *base_path, int base) {
    const struct trailer *trailer = &bundle->trailer;
    struct statvfs space;
    char fresh[NAME_MAX], aside[NAME_MAX];
    struct reader reader = {ZSTD_createDStream(), {NULL, 0, 0}, bundle->file, trailer->payload_bytes,
                            (off_t)trailer->payload_offset, malloc(BLOCK), 1};
    if (!libc_is_new_enough(trailer->libc)) exit(EXIT_UNFIT); /* before the disk is filled with what cannot run */
    remove_leftovers(base, trailer->name);
    if (fstatvfs(base, &space) == 0 && space.f_bavail * space.f_frsize < trailer->unpacked_bytes)
        return refuse(base_path, "has %llu MB free, %llu MB are needed",
                      (unsigned long long)(space.f_bavail * space.f_frsize >> 20),
                      (unsigned long long)(trailer->unpacked_bytes >> 20));
    if (reader.stream == NULL || reader.buffer == NULL) return refuse(base_path, "no memory to unpack");
    ZSTD_DCtx_setParameter(reader.stream, ZSTD_d_windowLogMax, 27);
    snprintf(fresh, sizeof fresh, PRIVATE_PREFIX "%ld", (long)getpid());
    snprintf(aside, sizeof aside, LOOSE_PREFIX "%ld", (long)getpid());
    if (mkdirat(base, fresh, OURS_ALONE) != 0) return refuse(base_path, "%s", strerror(errno));
    int folder = openat(base, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    print_error("unpacking into %s/%s; this is done once", base_path, trailer->name);
    if (folder < 0 || unpack_entries(&reader, folder, trailer) != 0) {
        int reason = errno;
        if (folder >= 0) close(folder);
        remove_tree(base, fresh);
        if (reason == 0) { /* another folder would not help */
            print_error("this file is damaged; compare it with SHA256SUMS and fetch it again");
            exit(EXIT_UNFIT);
        }
        return refuse(base_path, "%s", strerror(reason));
    }
    close(folder);
    /* A folder that is there but not whole goes aside; a process that runs from it keeps the files it has open. */
    if (renameat(base, trailer->name, base, aside) == 0) remove_tree(base, aside);
    if (renameat(base, fresh, base, trailer->name) != 0) return refuse(base_path, "%s", strerror(errno));
    ZSTD_freeDStream(reader.stream);
    free(reader.buffer);
    return 0;
}

/* Whether another process holds the lock of `base`. */
static int is_locked(int base) {
    int lock = openat(base, ".lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int held = lock >= 0 && flock(lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (lock >= 0) close(lock);
    return held;
}

/* `settled`: this process just wrote the folder, or another one waits for the disk. */
static int open_whole(int base, const struct trailer *trailer, int settled) {
    int folder = openat(base, trailer->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (folder < 0) return -1;
    /* Kept for as long as this process lives, exec included: another version's first start does not remove this folder. */
    int being_removed = flock(folder, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (!being_removed && (settled || faccessat(folder, SETTLED, F_OK, 0) == 0) && is_whole(folder, trailer)) return folder;
    close(folder);
    return -1;
}

/* Wait for the disk in a process of its own, which keeps the lock that this one holds. */
static void settle(int folder) {
    pid_t child = fork();
    if (child > 0) waitpid(child, NULL, 0);
    if (child != 0) return;
    if (fork() != 0) _exit(0); /* so that no process has to wait for it */
    /* A reader of this program's output must not wait either. */
    for (int file = 0; file <= 2; file++) close(file);
    if (syncfs(folder) == 0) close(openat(folder, SETTLED, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    _exit(0);
}

/* The bundle in `path`, unpacked there if need be: its open folder, or -1 with the reason among the refusals. */
static int bundle_in(const struct bundle *bundle, const char *path) {
    struct statvfs mount;
    int folder = -1, base = -1, lock = -1;
    if (make_private(path) != 0) return -1;
    if (statvfs(path, &mount) == 0 && (mount.f_flag & ST_NOEXEC) != 0)
        return refuse(path, "is on a file system mounted noexec");
    base = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (base < 0) return refuse(path, "%s", strerror(errno));
    folder = open_whole(base, &bundle->trailer, is_locked(base));
    if (folder < 0) {
        lock = openat(base, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock < 0) refuse(path, "%s", strerror(errno));
        else if (flock(lock, LOCK_EX) != 0) refuse(path, "cannot be locked: %s", strerror(errno));
        else {
            folder = open_whole(base, &bundle->trailer, 0); /* another first start may have done it meanwhile */
            if (folder < 0 && unpack(bundle, path, base) == 0) {
                folder = open_whole(base, &bundle->trailer, 1);
                if (folder >= 0) settle(folder);
                else refuse(path, "does not hold what was just unpacked into it");
            }
        }
        if (lock >= 0) close(lock);
    }
    close(base);
    return folder;
}

static int joined(char path[PATH_MAX], const char *folder, const char *name) {
    return folder != NULL && folder[0] == '/' && snprintf(path, PATH_MAX, "%s%s", folder, name) < PATH_MAX - NAME_MAX;
}

/* The first of the folders that does: the operator's, a service's own, the user's. Never a shared, guessable one. */
static int find_folder(const struct bundle *bundle, char path[PATH_MAX]) {
    const char *wanted = getenv("OWKAI_RUNTIME_DIR"), *service = getenv("CACHE_DIRECTORY");
    char first[PATH_MAX];
    int folder;
    if (wanted != NULL && wanted[0] != 0) {
        if (joined(path, wanted, "")) return bundle_in(bundle, path);
        return refuse(wanted, "OWKAI_RUNTIME_DIR must be an absolute path");
    }
    if (service != NULL) { /* set by systemd; several are separated by colons */
        snprintf(first, sizeof first, "%.*s", (int)strcspn(service, ":"), service);
        if (joined(path, first, "/runtime") && (folder = bundle_in(bundle, path)) >= 0) return folder;
    }
    if (joined(path, getenv("XDG_CACHE_HOME"), "/owkai") && (folder = bundle_in(bundle, path)) >= 0) return folder;
    if (joined(path, getenv("HOME"), "/.cache/owkai") && (folder = bundle_in(bundle, path)) >= 0) return folder;
    return -1;
}

int main(int argc, char **argv) {
    struct bundle bundle;
    char path[PATH_MAX], program[PATH_MAX + NAME_MAX];
    (void)argc;
    if (open_bundle(&bundle) != 0) return EXIT_UNFIT;
    mode_t mask = umask(022); /* the folder above is private; its contents keep the modes of the manifest */
    int folder = find_folder(&bundle, path);
    if (folder < 0) {
        print_error("found no folder to unpack into.%s\n"
            "Name one in OWKAI_RUNTIME_DIR: private (mode 0700), with %llu MB free, on a file system without noexec.",
            refusals[0] ? refusals : " Neither HOME nor XDG_CACHE_HOME is set.",
            (unsigned long long)(bundle.trailer.unpacked_bytes >> 20));
        return EXIT_UNFIT;
    }
    umask(mask);
    snprintf(program, sizeof program, "%s/%s/bin/owkai", path, bundle.trailer.name);
    execv(program, argv);
    print_error("%s: %s", program, strerror(errno));
    return EXIT_UNFIT;
}
