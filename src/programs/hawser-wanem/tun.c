#include "tun.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The device's own queue holds what arrives between two wake-ups; the link's queue is ours. */
#define TX_QUEUE_PACKETS 4096

static const char step_namespace[] = "enter the namespace", step_open[] = "open /dev/net/tun",
                  step_make[] = "make the device";

/* What the user can do about it, or "". */
static const char *advice(const char *what, int err)
{
    if (err == EPERM || err == EACCES) {
        return "; run it as root, or with CAP_NET_ADMIN and, for a namespace, CAP_SYS_ADMIN";
    }
    if (what == step_namespace) {
        return err == ENOENT ? "; make it with 'ip netns add', or name one of 'ip netns list'"
                             : "; that is no network namespace";
    }
    if (what == step_open) {
        return "; load the driver with 'modprobe tun'";
    }
    return what == step_make ? "; choose another name, or end what has a device of this one" : "";
}

static int fail(char *error, size_t error_len, const char *place, const char *what)
{
    int err = errno;
    snprintf(error, error_len, "%s: %s: %s%s", place, what, strerror(err), advice(what, err));
    return -err;
}

/* Splits "name@namespace"; the namespace is "" if there is none, or a path. */
static int split_place(const char *place, char name[IFNAMSIZ], char *netns, size_t netns_len)
{
    const char *at = strchr(place, '@');
    size_t name_len = at ? (size_t)(at - place) : strlen(place);
    if (name_len == 0 || name_len >= IFNAMSIZ || (at && at[1] == '\0')) {
        errno = EINVAL;
        return -1;
    }
    memcpy(name, place, name_len);
    name[name_len] = '\0';
    const char *folder = at && at[1] != '/' ? "/run/netns/" : "";
    int len = snprintf(netns, netns_len, "%s%s", folder, at ? at + 1 : "");
    if (len < 0 || (size_t)len >= netns_len) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}

/* In the present namespace. -1 with errno and the step that failed in *what. */
static int make_device(const char name[IFNAMSIZ], uint32_t mtu, const char **what)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    memcpy(request.ifr_name, name, IFNAMSIZ);
    *what = step_open;
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || control < 0) {
        goto failed;
    }
    *what = step_make;
    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0) {
        goto failed;
    }
    *what = "set its MTU";
    request.ifr_mtu = (int)mtu;
    if (ioctl(control, SIOCSIFMTU, &request) < 0) {
        goto failed;
    }
    *what = "set its queue";
    request.ifr_qlen = TX_QUEUE_PACKETS;
    if (ioctl(control, SIOCSIFTXQLEN, &request) < 0) {
        goto failed;
    }
    *what = "bring it up";
    if (ioctl(control, SIOCGIFFLAGS, &request) < 0) {
        goto failed;
    }
    request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
    if (ioctl(control, SIOCSIFFLAGS, &request) < 0) {
        goto failed;
    }
    close(control);
    return fd;

failed:;
    int err = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (control >= 0) {
        close(control);
    }
    errno = err;
    return -1;
}

int tun_open(const char *place, uint32_t mtu, char *error, size_t error_len)
{
    char name[IFNAMSIZ], netns[256];
    if (split_place(place, name, netns, sizeof netns) < 0) {
        int err = errno;
        snprintf(error, error_len,
                 "'%s' is wrong, it takes NAME or NAME@NAMESPACE, the name of up to %d bytes", place,
                 IFNAMSIZ - 1);
        return -err;
    }
    int own = -1;
    if (netns[0] != '\0') {
        own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        int other = open(netns, O_RDONLY | O_CLOEXEC);
        int moved = own >= 0 && other >= 0 ? setns(other, CLONE_NEWNET) : -1;
        int err = errno;
        if (other >= 0) {
            close(other);
        }
        if (moved < 0) {
            if (own >= 0) {
                close(own);
            }
            errno = err;
            return fail(error, error_len, place, step_namespace);
        }
    }
    const char *what;
    int fd = make_device(name, mtu, &what);
    int result = fd < 0 ? fail(error, error_len, place, what) : fd;
    if (own >= 0) {
        if (setns(own, CLONE_NEWNET) < 0 && fd >= 0) {
            result = fail(error, error_len, place, "leave the namespace");
            close(fd);
        }
        close(own);
    }
    return result;
}
