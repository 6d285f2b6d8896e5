#include "hawser/links_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/log.h"

static const char name[] = "links", fresh[] = "links.new";

struct links_file {
    char *folder;
    pthread_t thread;
    bool failed; /* the thread's: the last write */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char *found; /* at the start */
    char *text;  /* to be written next */
    bool looked; /* found is what it will be */
    bool stopping, ended;
    bool left; /* who ends last frees it: that is the thread */
};

/* ---- on the thread ---- */

static int folder_open(const struct links_file *f)
{
    int fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int read_all(int fd, char **out)
{
    struct stat is;
    if (fstat(fd, &is) < 0)
        return -errno;
    if (!S_ISREG(is.st_mode))
        return -EINVAL;
    if (is.st_size > LINKS_FILE_MAX_BYTES)
        return -EFBIG;
    size_t room = (size_t)is.st_size, len = 0;
    char *text = malloc(room + 1);
    int err = text == NULL ? -ENOMEM : 0;
    while (err == 0 && len < room) {
        ssize_t n = read(fd, text + len, room - len);
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
        else if (errno != EINTR)
            err = -errno;
    }
    if (err < 0) {
        free(text);
        return err;
    }
    text[len] = '\0';
    *out = text;
    return 0;
}

static char *read_file(const struct links_file *f)
{
    char *text = NULL;
    int folder = folder_open(f), fd = -1;
    int err = folder < 0 ? folder : 0;
    if (err == 0) {
        fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        err = fd < 0 ? -errno : read_all(fd, &text);
    }
    if (fd >= 0)
        close(fd);
    if (folder >= 0)
        close(folder);
    if (err < 0 && err != -ENOENT)
        log_warn("cannot read %s/%s: %s; what the links are good for is learned anew", f->folder, name,
                 err == -EINVAL || err == -ELOOP ? "it is not a regular file" : err_text(err));
    return text;
}

static int write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

/* Always a file just made: whatever had the name before is gone. */
static int replace(int folder, const char *text)
{
    if (unlinkat(folder, fresh, 0) < 0 && errno != ENOENT)
        return -errno;
    int fd = openat(folder, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int err = write_all(fd, text);
    if (close(fd) < 0 && err == 0)
        err = -errno;
    if (err == 0 && renameat(folder, fresh, folder, name) < 0)
        err = -errno;
    if (err < 0)
        unlinkat(folder, fresh, 0);
    return err;
}

static void write_file(struct links_file *f, const char *text)
{
    int folder = folder_open(f);
    int err = folder < 0 ? folder : replace(folder, text);
    if (folder >= 0)
        close(folder);
    if (err < 0 && !f->failed)
        log_warn(
            "cannot write %s/%s: %s; what was learned about the links is lost at the next start, unless that "
            "is mended",
            f->folder, name, err_text(err));
    f->failed = err < 0;
}

static void destroy(struct links_file *f)
{
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f->found);
    free(f->text);
    free(f->folder);
    free(f);
}

static void *run(void *arg)
{
    struct links_file *f = arg;
    pthread_setname_np(pthread_self(), "hawserd/links");
    char *found = read_file(f);
    pthread_mutex_lock(&f->lock);
    f->found = found;
    f->looked = true;
    pthread_cond_signal(&f->changed);
    while (f->text != NULL || !f->stopping) {
        if (f->text == NULL) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        char *text = f->text;
        f->text = NULL;
        pthread_mutex_unlock(&f->lock);
        write_file(f, text);
        free(text);
        pthread_mutex_lock(&f->lock);
    }
    f->ended = true;
    bool left = f->left;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (left)
        destroy(f);
    return NULL;
}

/* ---- on the main thread ---- */

int links_file_new(struct links_file **out, const char *folder)
{
    struct links_file *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&f->lock, NULL);
    f->folder = strdup(folder);
    int err = f->folder == NULL ? -ENOMEM : -pthread_create(&f->thread, NULL, run, f);
    if (err < 0)
        destroy(f);
    else
        *out = f;
    return err;
}

/* Under the lock: false when it has not come true within wait_us. */
static bool wait_for(struct links_file *f, const bool *what, uint64_t wait_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + wait_us % 1000000 * 1000;
    until.tv_sec += (time_t)(wait_us / 1000000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    while (!*what && pthread_cond_timedwait(&f->changed, &f->lock, &until) == 0)
        ;
    return *what;
}

int links_file_take(struct links_file *f, uint64_t wait_us, char **out)
{
    pthread_mutex_lock(&f->lock);
    bool looked = wait_for(f, &f->looked, wait_us);
    if (looked) {
        *out = f->found;
        f->found = NULL;
    }
    pthread_mutex_unlock(&f->lock);
    return looked ? 0 : -ETIMEDOUT;
}

void links_file_put(struct links_file *f, char *text)
{
    pthread_mutex_lock(&f->lock);
    char *older = f->text;
    f->text = text;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    free(older);
}

int links_file_free(struct links_file *f, uint64_t wait_us)
{
    if (f == NULL)
        return 0;
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_cond_signal(&f->changed);
    bool ended = wait_for(f, &f->ended, wait_us);
    f->left = !ended;
    pthread_t thread = f->thread; /* once it is left, it may be gone with all of it */
    pthread_mutex_unlock(&f->lock);
    if (!ended) {
        pthread_detach(thread);
        return -ETIMEDOUT;
    }
    pthread_join(thread, NULL);
    destroy(f);
    return 0;
}
