/* files.c - files and folders: each regular file is a session that uploads it. */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "estimate.h"
#include "hawser/err.h"

enum { WARNED_MAX = 5 };

/* ---- types ---- */

static const struct {
    const char *magic, *type;
} magics[] = {
    {"\x7f"
     "ELF",
     "elf"},
    {"\x1f\x8b", "gz"},
    {"PK\x03\x04", "zip"},
    {"\xfd"
     "7zXZ",
     "xz"},
    {"\x28\xb5\x2f\xfd", "zst"},
    {"BZh", "bz2"},
    {"%PDF", "pdf"},
    {"\x89PNG", "png"},
    {"\xff\xd8\xff", "jpg"},
    {"!<arch>", "deb"},
    {"SQLite f", "sqlite"},
    {"#!", "script"},
};

/* By the extension, else by the first bytes. */
static void name_type(const char *path, const uint8_t *bytes, size_t len, char out[static TALLY_NAME_MAX])
{
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    const char *dot = strrchr(base, '.');
    size_t n = dot != NULL ? strlen(dot + 1) : 0;
    bool plain = dot != NULL && dot != base && n > 0 && n < 10, letters = false;
    for (size_t i = 0; plain && i < n; i++) {
        char c = dot[1 + i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        plain = letter || (c >= '0' && c <= '9');
        letters = letters || letter;
        out[i] = (char)(letter ? c | 0x20 : c);
    }
    if (plain && letters) { /* libc.so.6 is no "6" */
        out[n] = '\0';
        return;
    }
    const char *type = "binary";
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        size_t magic_len = strlen(magics[i].magic);
        if (len >= magic_len && memcmp(bytes, magics[i].magic, magic_len) == 0) {
            snprintf(out, TALLY_NAME_MAX, "%s", magics[i].type);
            return;
        }
    }
    if (memchr(bytes, 0, len) == NULL)
        type = "text";
    snprintf(out, TALLY_NAME_MAX, "%s", type);
}

/* ---- the walk ---- */

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int explain(const char *path, int err, char error[static ERROR_MAX])
{
    const char *advice = err == -EACCES || err == -EPERM ? "run it as a user who may read that"
                         : err == -ENOENT                ? "correct the name (standard input is not read)"
                         : err == -EINVAL
                             ? "it is neither a file nor a folder; write what comes of it to a file"
                         : err == -ENOMEM ? "give it less at once, or a smaller --store"
                                          : "leave it out, or mend it";
    snprintf(error, ERROR_MAX, "cannot read %.300s: %s; %s", path, err_text(err), advice);
    return err;
}

/* A path that was named must be readable; below a folder, what is not is skipped. */
static int walk_one(char *path, int (*visit)(void *arg, const FTSENT *file), void *arg,
                    struct skipped *skipped, char error[static ERROR_MAX])
{
    FTS *fts = fts_open((char *[]){path, NULL}, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    FTSENT *e;
    int err = 0;
    if (fts == NULL)
        return explain(path, -errno, error);
    while (err == 0 && (e = fts_read(fts)) != NULL) {
        switch (e->fts_info) {
        case FTS_F:
            err = visit(arg, e);
            if ((err == -EACCES || err == -ENOENT || err == -EPERM || err == -EIO) && e->fts_level > 0) {
                if (skipped->unreadable++ < WARNED_MAX)
                    fprintf(stderr, "hawser-estimate: skipped %s: %s\n", e->fts_path, err_text(err));
                err = 0;
            }
            break;
        case FTS_DNR:
        case FTS_ERR:
        case FTS_NS:
            if (e->fts_level == 0)
                err = -e->fts_errno;
            else if (skipped->unreadable++ < WARNED_MAX)
                fprintf(stderr, "hawser-estimate: skipped %s: %s\n", e->fts_path, err_text(-e->fts_errno));
            break;
        case FTS_SL:
        case FTS_SLNONE:
        case FTS_DEFAULT:
            if (e->fts_level == 0) /* a pipe, which cannot be read twice, a device; a link to nowhere */
                err = e->fts_info == FTS_DEFAULT ? -EINVAL : -ENOENT;
            else
                skipped->special++;
            break;
        default:
            break; /* a folder, before and after */
        }
        if (err < 0)
            explain(e->fts_path, err, error);
    }
    fts_close(fts);
    return err;
}

/* In the order that was asked for. */
static int walk(char *const paths[], int (*visit)(void *arg, const FTSENT *file), void *arg,
                struct skipped *skipped, char error[static ERROR_MAX])
{
    int err = 0;
    for (size_t i = 0; err == 0 && paths[i] != NULL; i++)
        err = walk_one(paths[i], visit, arg, skipped, error);
    return err;
}

static int add_size(void *arg, const FTSENT *file)
{
    uint64_t *bytes = arg;
    int fd = file->fts_level == 0 ? open(file->fts_path, O_RDONLY | O_CLOEXEC) : -1;
    if (file->fts_level == 0 && fd < 0)
        return -errno; /* said before the work, not after */
    if (fd >= 0)
        close(fd);
    *bytes += (uint64_t)file->fts_statp->st_size;
    return 0;
}

int files_measure(char *const paths[], uint64_t *bytes, char error[static ERROR_MAX])
{
    struct skipped later = {.unreadable = WARNED_MAX}; /* the walk that reads tells of them */
    *bytes = 0;
    return walk(paths, add_size, bytes, &later, error);
}

static int carry_fd(struct run *run, const char *path, int fd)
{
    static uint8_t bytes[STORE_TAKE_MOST_BYTES];
    struct carry_stream stream;
    struct tally_type *type = NULL;
    char name[TALLY_NAME_MAX];
    int err = 0;
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = -errno; /* what was read of it has been carried: it counts */
        if (type == NULL) {
            if (n <= 0)
                return err;
            name_type(path, bytes, (size_t)n, name);
            type = tally_find(&run->tally, name);
            type->count += run->pass == PASS_COLD;
            err = carry_open(run->carry, &stream, 0, &type->passes[run->pass]);
        }
        if (n > 0 && err == 0)
            err = carry_bytes(run->carry, &stream, bytes, (size_t)n);
        if (n <= 0 || err < 0)
            break;
        progress_add(run, (uint64_t)n);
    }
    int closed = carry_close(run->carry, &stream);
    return err < 0 ? err : closed;
}

static int carry_file(void *arg, const FTSENT *file)
{
    int fd = open(file->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW * (file->fts_level > 0));
    if (fd < 0)
        return -errno;
    int err = carry_fd(arg, file->fts_path, fd);
    close(fd);
    return err;
}

int files_carry(struct run *run, char *const paths[], struct skipped *skipped, char error[static ERROR_MAX])
{
    return walk(paths, carry_file, run, skipped, error);
}
