#include "hawser/keeper_setup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/log.h"

enum { CONTROL_BACKLOG = 64, TEXT_FIRST = 16 * 1024 };

/* ---- the configuration's text ---- */

static int read_all(int fd, char **text, size_t *len_bytes)
{
    size_t room = TEXT_FIRST, len = 0;
    char *bytes = malloc(room);
    int err = bytes == NULL ? -ENOMEM : 0;
    while (err == 0) {
        ssize_t n = read(fd, bytes + len, room - len - 1);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            err = -errno;
        if (n > 0)
            len += (size_t)n;
        if (room - len > 1)
            continue;
        char *more = room < CONFIG_TEXT_MAX ? realloc(bytes, room * 2) : NULL;
        if (more == NULL) {
            err = room < CONFIG_TEXT_MAX ? -ENOMEM : -EFBIG;
            break;
        }
        bytes = more;
        room *= 2;
    }
    if (err < 0) {
        free(bytes);
        return err;
    }
    bytes[len] = '\0';
    *text = bytes;
    *len_bytes = len;
    return 0;
}

int keeper_text_read(const char *path, char **text, size_t *len_bytes, char error[static CONFIG_ERROR_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int err = fd < 0 ? -errno : read_all(fd, text, len_bytes);
    if (fd >= 0)
        close(fd);
    if (err < 0)
        snprintf(error, CONFIG_ERROR_MAX, "%s: %s", path, err_text(err));
    return err;
}

/* ---- user and interfaces ---- */

static int user_take(const char *name, struct keeper_user *out)
{
    errno = 0;
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL)
        return errno != 0 && errno != ENOENT && errno != ESRCH ? -errno : -ENOENT;
    out->uid = entry->pw_uid;
    out->gid = entry->pw_gid;
    snprintf(out->name, sizeof(out->name), "%s", name);
    return 0;
}

int keeper_user_find(const char *configured, struct keeper_user *out, char error[static CONFIG_ERROR_MAX])
{
    static const char make[] = "useradd --system --home-dir /var/lib/hawser --shell /usr/sbin/nologin";
    int err;
    if (configured[0] != '\0') {
        err = user_take(configured, out);
        if (err < 0)
            snprintf(error, CONFIG_ERROR_MAX, "[node] user = %s: %s; make it with: %s %s", configured,
                     err == -ENOENT ? "there is no such user" : err_text(err), make, configured);
        else if (out->uid == 0) {
            snprintf(error, CONFIG_ERROR_MAX,
                     "[node] user = %s: the engine does not run as root; name another user", configured);
            err = -EINVAL;
        }
        return err;
    }
    err = user_take("hawser", out);
    if (err == 0)
        return 0;
    err = user_take("nobody", out);
    if (err < 0) {
        snprintf(error, CONFIG_ERROR_MAX,
                 "there is neither a user 'hawser' nor 'nobody'; make one with: %s hawser", make);
        return err;
    }
    log_warn("there is no user 'hawser': the engine runs as 'nobody', together with whoever else does; make "
             "one with: %s "
             "hawser",
             make);
    return 0;
}

int keeper_pins_check(const struct config *c, const char *config_path, const struct identity *own,
                      char error[static CONFIG_ERROR_MAX])
{
    uint8_t pin[CONFIG_PIN_BYTES];
    identity_pin(own, pin);
    for (size_t i = 0; i < c->peer_count; i++) {
        const struct config_peer *p = &c->peers[i];
        for (size_t k = 0; k < p->pin_count; k++) {
            if (memcmp(p->pins[k], pin, sizeof(pin)) != 0)
                continue;
            snprintf(error, CONFIG_ERROR_MAX,
                     "%.200s:%u: [peer %s] pin: this is the pin of this node itself; put the one there that "
                     "hawserctl keygen printed on %s",
                     config_path, p->pin_line, p->name, p->name);
            return -ERR_CONFIG;
        }
    }
    return 0;
}

int keeper_identity_load(struct identity **out, const struct config *c, const char *config_path,
                         char error[static CONFIG_ERROR_MAX])
{
    char why[IDENTITY_ERROR_MAX] = "";
    struct identity *own = NULL;
    int err = identity_load(&own, c->identity, why);
    if (err < 0)
        snprintf(error, CONFIG_ERROR_MAX, "%s", why);
    else
        err = keeper_pins_check(c, config_path, own, error);
    if (err < 0)
        identity_free(own);
    else
        *out = own;
    return err;
}

int keeper_interfaces_check(const struct config *c, char error[static CONFIG_ERROR_MAX])
{
    for (size_t i = 0; i < c->interface_count; i++) {
        if (if_nametoindex(c->interfaces[i]) != 0)
            continue;
        snprintf(
            error, CONFIG_ERROR_MAX,
            "[intercept] interface = %s: there is no such interface here ('ip link' lists those there are)",
            c->interfaces[i]);
        return -ENODEV;
    }
    return 0;
}

/* ---- folders ---- */

/* Make the folders above the last component, as root's and for everybody to pass through, whatever the umask:
 * people who may use the control socket must be able to get there. */
static int make_above(const char *path)
{
    char above[PATH_MAX];
    int err = 0;
    if (path[0] == '\0' || strlen(path) >= sizeof(above))
        return path[0] == '\0' ? -ENOENT : -ENAMETOOLONG;
    strcpy(above, path);
    mode_t mask = umask(0022);
    for (char *slash = strchr(above + 1, '/'); slash != NULL && err == 0; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(above, 0755) < 0 && errno != EEXIST)
            err = -errno;
        *slash = '/';
    }
    umask(mask);
    return err;
}

/* ---- the store's folder ---- */

/* 1 empty, as a file system just made also is, 0 not, or -errno. */
static int folder_is_empty(int folder)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    int empty = 1;
    const struct dirent *entry;
    while (empty && (entry = readdir(dir)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lost+found") == 0;
    closedir(dir);
    return empty;
}

static int store_fail(int err, const char *path, const struct keeper_user *user,
                      char error[static CONFIG_ERROR_MAX])
{
    if (err == -ENOTEMPTY)
        snprintf(
            error, CONFIG_ERROR_MAX,
            "[store] path = %s: the folder is not empty and belongs to somebody else; name an empty one, or "
            "one that is not there yet (the files of an older store must belong to the engine's user, %s)",
            path, user->name);
    else if (err == -EEXIST)
        snprintf(error, CONFIG_ERROR_MAX,
                 "[store] path = %s: the folder is another user's; name one that is not there yet, or, if "
                 "this one "
                 "is meant, give it to the engine's user: chown %s %s",
                 path, user->name, path);
    else
        snprintf(
            error, CONFIG_ERROR_MAX,
            "[store] path = %s: %s; name a folder that can be made and written to, or take the line out: the "
            "store is then in memory only",
            path, err_text(err));
    return err;
}

enum store_state { STORE_FINE, STORE_OPEN_TO_OTHERS, STORE_FREE /* empty, and root's */ };

/* One of the above; -ENOTEMPTY, -EEXIST: it is another's, without and with nothing in it; or another
 * -errno. */
static int store_judge(int folder, const struct keeper_user *user)
{
    struct stat is;
    if (fstat(folder, &is) < 0)
        return -errno;
    if (is.st_uid == user->uid)
        return (is.st_mode & 07777) == 0700 ? STORE_FINE : STORE_OPEN_TO_OTHERS;
    int empty = folder_is_empty(folder);
    if (empty <= 0)
        return empty < 0 ? empty : -ENOTEMPTY;
    return is.st_uid == 0 || is.st_uid == geteuid() ? STORE_FREE : -EEXIST;
}

/* Ours, then its mode, then the user's: this way CAP_CHOWN is enough. */
static int store_give(int folder, const struct keeper_user *user)
{
    return fchown(folder, geteuid(), (gid_t)-1) < 0 || fchmod(folder, 0700) < 0 ||
                   fchown(folder, user->uid, user->gid) < 0
               ? -errno
               : 0;
}

static int store_settle(int folder, const char *path, const struct keeper_user *user, bool made)
{
    int state = store_judge(folder, user);
    if (state <= STORE_FINE)
        return state;
    int err = store_give(folder, user);
    if (state == STORE_OPEN_TO_OTHERS) {
        if (err == 0)
            log_info("[store] path = %s: others could look into the folder; its mode is 0700 now", path);
        else
            log_warn(
                "[store] path = %s: others may look into the folder, and that cannot be changed (%s); try: "
                "chmod 0700 %s",
                path, err_text(err), path);
        return 0;
    }
    if (err == 0 && !made)
        log_info("[store] path = %s: the folder was root's and empty; it is %s's now, with mode 0700", path,
                 user->name);
    return err;
}

int keeper_store_make(const char *path, const struct keeper_user *user, char error[static CONFIG_ERROR_MAX])
{
    int err = make_above(path);
    bool made = err == 0 && mkdir(path, 0700) == 0;
    if (err == 0 && !made && errno != EEXIST)
        err = -errno;
    int folder = err < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (err == 0)
        err = folder < 0 ? -errno : store_settle(folder, path, user, made);
    if (folder >= 0)
        close(folder);
    return err < 0 ? store_fail(err, path, user, error) : 0;
}

/* Of the path, as far as it is there: a descriptor, or -errno. */
static int nearest_open(const char *path, bool *whole)
{
    char at[PATH_MAX];
    struct stat is;
    if (strlen(path) >= sizeof(at))
        return -ENAMETOOLONG;
    strcpy(at, path);
    *whole = true;
    while (lstat(at, &is) < 0) {
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || slash == NULL)
            return -errno;
        slash[slash == at] = '\0';
        *whole = false;
    }
    int fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int keeper_store_check(const char *path, const struct keeper_user *user, char error[static CONFIG_ERROR_MAX])
{
    bool whole = false;
    struct statvfs on;
    int folder = nearest_open(path, &whole), err = folder < 0 ? folder : 0;
    if (err == 0 && whole)
        err = store_judge(folder, user);
    if (err >= 0 && (fstatvfs(folder, &on) < 0 || (on.f_flag & ST_RDONLY) != 0))
        err = -EROFS;
    if (err >= 0 && !whole && faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) < 0)
        err = -errno;
    if (folder >= 0)
        close(folder);
    return err < 0 ? store_fail(err, path, user, error) : 0;
}

bool keeper_store_can_wait(int err)
{
    return err == -EROFS || err == -ENOSPC || err == -EDQUOT || err == -EIO;
}

/* ---- the control socket ---- */

/* 0 nobody is there (any more): the path is free; -EADDRINUSE another hawserd answers; -EEXIST something that
 * is not a socket. */
static int control_probe(const struct sockaddr_un *at)
{
    struct stat is;
    if (lstat(at->sun_path, &is) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(is.st_mode))
        return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int err = connect(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 ? -errno : 0;
    close(fd);
    /* EAGAIN: somebody listens whose queue is full. */
    if (err == 0 || err == -EAGAIN)
        return -EADDRINUSE;
    if (err != -ECONNREFUSED)
        return err;
    return unlink(at->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int control_listen(struct keeper_control *control, const struct sockaddr_un *at,
                          const struct keeper_user *user)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mode_t mask = umask(0177); /* nobody may connect before the group is set */
    int err = bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 ? -errno : 0;
    umask(mask);
    if (err < 0) {
        close(fd);
        return err;
    }
    struct stat is;
    if (chmod(at->sun_path, 0660) < 0 || lchown(at->sun_path, (uid_t)-1, user->gid) < 0 ||
        lstat(at->sun_path, &is) < 0 || listen(fd, CONTROL_BACKLOG) < 0) {
        err = -errno;
        unlink(at->sun_path);
        close(fd);
        return err;
    }
    control->fd = fd;
    control->dev = is.st_dev;
    control->ino = is.st_ino;
    strcpy(control->path, at->sun_path);
    return 0;
}

int keeper_control_open(struct keeper_control *out, const char *path, const struct keeper_user *user,
                        char error[static CONFIG_ERROR_MAX])
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    out->fd = -1;
    int err = strlen(path) < sizeof(at.sun_path) ? make_above(path) : -ENAMETOOLONG;
    if (err == 0) {
        strcpy(at.sun_path, path);
        err = control_probe(&at);
    }
    if (err == 0)
        err = control_listen(out, &at, user);
    if (err == -EADDRINUSE)
        snprintf(error, CONFIG_ERROR_MAX,
                 "[admin] control = %s: another hawserd is running and answers there; stop it "
                 "first, or give this one a socket of its own",
                 path);
    else if (err == -EEXIST)
        snprintf(error, CONFIG_ERROR_MAX,
                 "[admin] control = %s: there is something that is not a socket; remove it or "
                 "choose another path",
                 path);
    else if (err < 0)
        snprintf(error, CONFIG_ERROR_MAX, "[admin] control = %s: %s", path, err_text(err));
    return err;
}

void keeper_control_close(struct keeper_control *control)
{
    if (control->fd < 0)
        return;
    struct stat is;
    if (lstat(control->path, &is) == 0 && is.st_dev == control->dev && is.st_ino == control->ino)
        unlink(control->path);
    close(control->fd);
    control->fd = -1;
}
