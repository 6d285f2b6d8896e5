#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hawser/proved.h"
#include "shelf_internal.h"

enum { PEER_DIGITS = 8, NAME_BYTES = PEER_DIGITS + sizeof(".proved") };

static void name_of(char name[static NAME_BYTES], uint32_t peer)
{
    snprintf(name, NAME_BYTES, "%08x.proved", peer);
}

static bool peer_of(const char *name, uint32_t *peer)
{
    char again[NAME_BYTES], *end;
    if (strlen(name) != NAME_BYTES - 1)
        return false;
    *peer = (uint32_t)strtoul(name, &end, 16);
    name_of(again, *peer);
    return strcmp(name, again) == 0;
}

/* ---- writing ---- */

/* Never what is there, which may be a FIFO that nobody reads. */
int shelf_write_file(const struct shelf *s, const char *name, const struct iovec parts[2])
{
    if (unlinkat(s->folder, name, 0) < 0 && errno != ENOENT)
        return -errno;
    int fd = openat(s->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ssize_t whole = (ssize_t)(parts[0].iov_len + parts[1].iov_len), n = writev(fd, parts, 2);
    int err = n == whole ? 0 : n < 0 ? -errno : -ENOSPC;
    close(fd);
    if (err < 0)
        unlinkat(s->folder, name, 0);
    return err;
}

/* A file that could not be read may be sound still: it is not written over before another start has read it.
 */
static void leave_unread(struct shelf *s, uint32_t peer, int err)
{
    s->counters.unreadable_files++;
    s->unread_err = err;
    if (s->unread_count < SHELF_UNREAD_MOST)
        s->unread[s->unread_count] = peer;
    s->unread_count++;
}

static bool is_left_unread(const struct shelf *s, uint32_t peer)
{
    for (unsigned i = 0; i < s->unread_count && i < SHELF_UNREAD_MOST; i++) {
        if (s->unread[i] == peer)
            return true;
    }
    return s->unread_count > SHELF_UNREAD_MOST; /* which ones more is not known */
}

int shelf_write_proved(struct shelf *s, uint32_t peer, const uint8_t *entries, size_t len)
{
    static const char fresh[] = "proved.new"; /* one at a time: the next one writes over what is left of it */
    char name[NAME_BYTES];
    uint8_t header[PROVED_HEADER_BYTES];
    struct iovec parts[2] = {{header, sizeof(header)}, {(void *)(uintptr_t)entries, len}};
    if (s->counters.error < 0)
        return s->counters.error;
    if (is_left_unread(s, peer))
        return s->unread_err;
    name_of(name, peer);
    proved_put_header(header, s->pin, peer, entries, len);
    int err = shelf_write_file(s, fresh, parts);
    if (err == 0 && renameat(s->folder, fresh, s->folder, name) < 0) {
        err = -errno;
        unlinkat(s->folder, fresh, 0);
    }
    if (shelf_is_of_disk(err))
        s->counters.error = err;
    return err;
}

/* ---- reading ---- */

/* All there is, at most len bytes; how many, or -errno. */
static ssize_t read_all(int fd, uint8_t *bytes, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(fd, bytes + got, len - got, (off_t)got);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)got;
}

/* The whole file in bytes[0 .. most); -EBADMSG: it is none of ours; another -errno: nothing is known of it.
 */
static ssize_t read_file(int folder, const char *name, uint8_t *bytes, size_t most)
{
    struct stat is;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ELOOP ? -EBADMSG : -errno; /* a symbolic link */
    ssize_t n = fstat(fd, &is) < 0 ? -errno : -EBADMSG;
    if (n == -EBADMSG && S_ISREG(is.st_mode) && (size_t)is.st_size <= most)
        n = read_all(fd, bytes, most);
    close(fd);
    return n;
}

static void read_one(struct shelf *s, const char *name, uint32_t peer, shelf_take_proved *take, void *arg)
{
    enum { MOST = PROVED_HEADER_BYTES + PROVED_MOST_BYTES };
    ssize_t len = read_file(s->folder, name, s->window, MOST);
    if (len < 0 && len != -EBADMSG) {
        leave_unread(s, peer, (int)len);
        return;
    }
    bool sound = len >= 0 && proved_is_sound(s->window, (size_t)len, s->pin, peer);
    s->counters.bad_files += !sound;
    int taken =
        sound ? take(arg, peer, s->window + PROVED_HEADER_BYTES, (size_t)len - PROVED_HEADER_BYTES) : 0;
    if (taken < 0)
        leave_unread(s, peer, taken);
    else if (taken == 0)
        unlinkat(s->folder, name, 0); /* else it is looked at again after the next start */
}

void shelf_read_proved(struct shelf *s, shelf_take_proved *take, void *arg)
{
    int fd = openat(s->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL && fd >= 0)
        close(fd);
    const struct dirent *entry;
    uint32_t peer;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (peer_of(entry->d_name, &peer))
            read_one(s, entry->d_name, peer, take, arg);
    }
    if (dir != NULL)
        closedir(dir);
}
