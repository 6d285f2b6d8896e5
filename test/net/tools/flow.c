/* flow - numbered UDP packets at an even pace, and what became of them at the other end (tests and
 * benchmarks).
 *
 *   flow send ADDRESS PORT COUNT PAYLOAD-BYTES BITS-A-SECOND
 *   flow receive ADDRESS PORT COUNT [losses]
 *
 * The rate counts whole IP packets. The receiver prints "ready", then ends two seconds after its last packet,
 * or after packet number COUNT - 1, with a line of JSON: delays from just before the sender's system call to
 * the kernel's receive time stamp in microseconds, and with `losses` the numbers of all packets that did not
 * come. Both ends must be on one machine. A packet carries its number and its time of sending. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum {
    PAYLOAD_MAX = 65000,
    COUNT_MAX = 10000000,
    RECEIVE_BUFFER = 256 << 20,
    SEND_BUFFER = 4 << 20,
    IDLE_S = 2,
    AHEAD_NS = 50000, /* packets that are due this soon go at once, and the sender sleeps less often */
};

struct label {
    uint64_t number;
    uint64_t sent_ns;
};

struct tally {
    uint64_t packets, bytes, first_ns, last_ns, highest, overtaken, copies;
    uint8_t *seen;      /* of each number */
    uint32_t *delay_us; /* of each packet in order of arrival */
};

static void fail(const char *what)
{
    fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number_of(const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *end != '\0' || number > most) {
        fprintf(stderr, "flow: '%s' is no number up to %llu\n", text, (unsigned long long)most);
        exit(2);
    }
    return number;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static socklen_t address_of(const char *host, const char *port, struct sockaddr_storage *out)
{
    struct sockaddr_in *ip4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *ip6 = (struct sockaddr_in6 *)out;
    uint16_t number = htons((uint16_t)number_of(port, 65535));
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &ip4->sin_addr) == 1) {
        ip4->sin_family = AF_INET;
        ip4->sin_port = number;
        return sizeof *ip4;
    }
    if (inet_pton(AF_INET6, host, &ip6->sin6_addr) == 1) {
        ip6->sin6_family = AF_INET6;
        ip6->sin6_port = number;
        return sizeof *ip6;
    }
    fprintf(stderr, "flow: '%s' is no address\n", host);
    exit(2);
}

static int send_all(char **words)
{
    static uint8_t payload[PAYLOAD_MAX];
    struct sockaddr_storage to;
    socklen_t to_len = address_of(words[0], words[1], &to);
    uint64_t count = number_of(words[2], COUNT_MAX);
    size_t len = (size_t)number_of(words[3], PAYLOAD_MAX);
    double bps = (double)number_of(words[4], UINT64_C(100000000000));
    double gap_ns = (double)(len + (to.ss_family == AF_INET ? 28 : 48)) * 8e9 / bps;
    int fd = socket(to.ss_family, SOCK_DGRAM, 0), buffer = SEND_BUFFER;
    if (len < sizeof(struct label) || bps < 1) {
        fprintf(stderr, "flow: a packet has at least %zu bytes, and a rate is at least 1\n",
                sizeof(struct label));
        return 2;
    }
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, to_len) < 0) {
        fail("connect");
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t due_ns = begun_ns + (uint64_t)((double)i * gap_ns);
        if (due_ns > clock_ns(CLOCK_MONOTONIC) + AHEAD_NS) {
            struct timespec due = {(time_t)(due_ns / 1000000000), (long)(due_ns % 1000000000)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        }
        struct label label = {i, clock_ns(CLOCK_REALTIME)};
        memcpy(payload, &label, sizeof label);
        if (send(fd, payload, len, 0) < 0 && errno != ENOBUFS) {
            fail("send");
        }
    }
    return 0;
}

static uint64_t stamp_of(struct msghdr *message)
{
    struct timespec stamp = {0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
        }
    }
    return (uint64_t)stamp.tv_sec * 1000000000u + (uint64_t)stamp.tv_nsec;
}

/* False when nothing came for a while. */
static bool receive_one(int fd, struct tally *tally, uint64_t count)
{
    static uint8_t payload[PAYLOAD_MAX];
    union {
        struct cmsghdr first; /* aligned */
        char room[128];
    } control;
    struct iovec piece = {payload, sizeof payload};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct label label;
    ssize_t len = recvmsg(fd, &message, 0);
    if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return tally->packets == 0;
    }
    if (len < (ssize_t)sizeof label) {
        fail("receive");
    }
    memcpy(&label, payload, sizeof label);
    uint64_t now_ns = stamp_of(&message);
    if (label.number >= count || tally->packets >= 2 * count) {
        return true; /* not of this run */
    }
    if (tally->packets == 0) {
        tally->first_ns = now_ns;
    }
    tally->last_ns = now_ns;
    tally->delay_us[tally->packets++] = (uint32_t)((now_ns - label.sent_ns) / 1000);
    tally->bytes += (uint64_t)len;
    tally->copies += tally->seen[label.number];
    tally->overtaken += label.number < tally->highest;
    tally->highest = label.number > tally->highest ? label.number : tally->highest;
    tally->seen[label.number] = 1;
    return label.number != count - 1;
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static void print_tally(struct tally *tally, uint64_t count, bool losses)
{
    qsort(tally->delay_us, tally->packets, sizeof tally->delay_us[0], compare);
    uint64_t last = tally->packets > 0 ? tally->packets - 1 : 0;
    printf("{\"packets\": %llu, \"bytes\": %llu, \"first_ns\": %llu, \"last_ns\": %llu, \"overtaken\": %llu, "
           "\"copies\": %llu, \"min_us\": %u, \"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u",
           (unsigned long long)tally->packets, (unsigned long long)tally->bytes,
           (unsigned long long)tally->first_ns, (unsigned long long)tally->last_ns,
           (unsigned long long)tally->overtaken, (unsigned long long)tally->copies, tally->delay_us[0],
           tally->delay_us[last / 2], tally->delay_us[last * 99 / 100], tally->delay_us[last]);
    const char *comma = "";
    for (uint64_t i = 0; losses && i < count; i++) {
        if (i == 0) {
            printf(", \"losses\": [");
        }
        if (!tally->seen[i]) {
            printf("%s%llu", comma, (unsigned long long)i);
            comma = ", ";
        }
    }
    puts(losses ? "]}" : "}");
}

static int receive_all(char **words, bool losses)
{
    struct sockaddr_storage at;
    socklen_t at_len = address_of(words[0], words[1], &at);
    uint64_t count = number_of(words[2], COUNT_MAX);
    struct timeval idle = {.tv_sec = IDLE_S};
    int fd = socket(at.ss_family, SOCK_DGRAM, 0), buffer = RECEIVE_BUFFER, on = 1;
    struct tally tally = {.seen = calloc(count + 1, 1), .delay_us = calloc(2 * count + 1, sizeof(uint32_t))};
    if (!tally.seen || !tally.delay_us || count == 0) {
        fputs("flow: too large a count, or none\n", stderr);
        return 1;
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, at_len) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle) < 0) {
        fail("listen");
    }
    puts("ready");
    fflush(stdout);
    while (receive_one(fd, &tally, count)) {
    }
    print_tally(&tally, count, losses);
    free(tally.seen);
    free(tally.delay_us);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "send") == 0) {
        return send_all(argv + 2);
    }
    bool losses = argc == 6 && strcmp(argv[5], "losses") == 0;
    if ((argc == 5 || losses) && strcmp(argv[1], "receive") == 0) {
        return receive_all(argv + 2, losses);
    }
    fputs("usage: flow send ADDRESS PORT COUNT PAYLOAD-BYTES BITS-A-SECOND\n"
          "       flow receive ADDRESS PORT COUNT [losses]\n",
          stderr);
    return 2;
}
