/* test_lane_out.c - what a socket does not take yet comes out whole and in order, within its bound. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../src/tunnel/lane_out.h"
#include "hawser/lane.h"

enum { TOTAL = 4 * LANE_OUT_BYTES, PIECE = 16661 };

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}

static size_t take(int fd, size_t at, size_t most)
{
    static uint8_t bytes[65536];
    ssize_t n = recv(fd, bytes, most < sizeof(bytes) ? most : sizeof(bytes), MSG_DONTWAIT);
    ck_assert_int_gt(n, 0);
    for (size_t i = 0; i < (size_t)n; i++)
        ck_assert_uint_eq(bytes[i], byte_at(at + i));
    return (size_t)n;
}

/* The reader is slower than the writer, so bytes wait, the socket takes parts, and the buffer moves them
 * down. */
START_TEST(bytes_come_out_in_order)
{
    struct lane_out o = {0};
    int fds[2];
    uint8_t piece[PIECE];
    size_t put = 0, sent = 0, taken = 0;
    bool was_full = false, was_refused = false;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    while (taken < TOTAL) {
        size_t len = TOTAL - put < PIECE ? TOTAL - put : PIECE;
        for (size_t i = 0; i < len; i++)
            piece[i] = byte_at(put + i);
        int err = len > 0 ? lane_out_put(&o, piece, len) : -ENOBUFS;
        if (err == 0)
            put += len;
        else
            ck_assert_int_eq(err, -ENOBUFS);
        was_full = was_full || (err < 0 && len > 0);
        ck_assert_uint_eq(lane_out_waiting(&o), put - sent);
        ck_assert_uint_le(lane_out_waiting(&o), LANE_OUT_BYTES);
        while (lane_out_waiting(&o) > 0) {
            ssize_t n = lane_out_send(&o, fds[0]);
            if (n < 0) {
                ck_assert_int_eq(n, -EAGAIN);
                was_refused = true;
                break;
            }
            sent += (size_t)n;
        }
        if (was_full || put == TOTAL || sent - taken > 300000)
            taken += take(fds[1], taken, 7001);
    }
    ck_assert(was_full && was_refused);
    ck_assert_uint_eq(lane_out_waiting(&o), 0);
    lane_out_free(&o);
    ck_assert_ptr_null(o.bytes);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(a_socket_that_is_gone_is_said)
{
    struct lane_out o = {0};
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    close(fds[1]);
    ck_assert_int_eq(lane_out_put(&o, "x", 1), 0);
    ck_assert_int_eq(lane_out_send(&o, fds[0]), -EPIPE);
    ck_assert_uint_eq(lane_out_waiting(&o), 1);
    lane_out_free(&o);
    close(fds[0]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lane_out");
    TCase *t = tcase_create("all");
    tcase_add_test(t, bytes_come_out_in_order);
    tcase_add_test(t, a_socket_that_is_gone_is_said);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
