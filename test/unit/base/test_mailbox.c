/* test_mailbox.c - many posters and one reader: nothing lost, each poster's mails in order. */
#include "hawser/mailbox.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { POSTERS = 4, MAILS_EACH = 20000 };

struct letter {
    struct mail mail;
    unsigned poster, number;
};

static struct mailbox box;
static unsigned next_of[POSTERS], delivered;

static void deliver(struct mail *m)
{
    struct letter *l = (struct letter *)(void *)m;
    ck_assert_uint_eq(l->number, next_of[l->poster]);
    next_of[l->poster]++;
    delivered++;
    free(l);
}

static struct letter *letter_new(unsigned poster, unsigned number)
{
    struct letter *l = malloc(sizeof(*l));
    ck_assert_ptr_nonnull(l);
    *l = (struct letter){.mail.deliver = deliver, .poster = poster, .number = number};
    return l;
}

static void set_up(void)
{
    ck_assert_int_eq(mailbox_init(&box), 0);
    for (int i = 0; i < POSTERS; i++)
        next_of[i] = 0;
    delivered = 0;
}

static void tear_down(void)
{
    mailbox_end(&box);
    ck_assert_int_eq(box.event_fd, -1);
    mailbox_end(&box); /* fine twice */
}

static int is_ringing(void)
{
    struct pollfd p = {.fd = box.event_fd, .events = POLLIN};
    return poll(&p, 1, 0);
}

START_TEST(the_descriptor_rings_while_something_is_inside)
{
    ck_assert_ptr_null(mailbox_take(&box));
    ck_assert_int_eq(is_ringing(), 0);
    mailbox_post(&box, &letter_new(0, 0)->mail);
    mailbox_post(&box, &letter_new(0, 1)->mail);
    ck_assert_int_eq(is_ringing(), 1);
    struct mail *m = mailbox_take(&box);
    ck_assert_int_eq(is_ringing(), 0);
    struct mail *second = m->next;
    ck_assert_ptr_null(second->next);
    m->deliver(m);
    second->deliver(second);
    ck_assert_uint_eq(delivered, 2);
    ck_assert_ptr_null(mailbox_take(&box));
    mailbox_post(&box, &letter_new(0, 2)->mail);
    ck_assert_int_eq(is_ringing(), 1);
    m = mailbox_take(&box);
    m->deliver(m);
}
END_TEST

static void *post_all(void *arg)
{
    unsigned poster = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < MAILS_EACH; i++)
        mailbox_post(&box, &letter_new(poster, i)->mail);
    return NULL;
}

/* The reader only reads when the descriptor says so: a missing ring would hang here. */
START_TEST(each_posters_mails_arrive_in_order)
{
    pthread_t threads[POSTERS];
    for (uintptr_t i = 0; i < POSTERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post_all, (void *)i), 0);
    while (delivered < POSTERS * MAILS_EACH) {
        struct pollfd p = {.fd = box.event_fd, .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, 30000), 1);
        for (struct mail *m = mailbox_take(&box), *next; m != NULL; m = next) {
            next = m->next;
            m->deliver(m);
        }
    }
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(next_of[i], MAILS_EACH);
    }
    ck_assert_ptr_null(mailbox_take(&box));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mailbox");
    TCase *t = tcase_create("mailbox");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_descriptor_rings_while_something_is_inside);
    tcase_add_test(t, each_posters_mails_arrive_in_order);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
