/* The reader of the profiles of hawser-wanem, the changes that it shares with the control socket, and the
 * clock of a schedule. */
#include <check.h>
#include <stdlib.h>

#define HAWSER_WANEM_PROFILES "/nowhere"
#include "../../../src/programs/hawser-wanem/emulator.c"
#include "../../../src/programs/hawser-wanem/params.c"
#include "../../../src/programs/hawser-wanem/profile.c"

static struct link_params fresh[WANEM_DIRECTIONS];
static struct schedule plan;
static char error[PROFILE_ERROR_MAX];

/* In place of the threads: what they were told last. */
static struct link_params told[WANEM_DIRECTIONS];
static uint64_t told_limit[WANEM_DIRECTIONS];

void pump_set(struct pump *pump, const struct link_params *params, uint64_t queue_limit)
{
    size_t direction = (size_t)((const char *)pump - (const char *)told);
    told[direction] = *params;
    told_limit[direction] = queue_limit;
}

static void begin(void)
{
    params_default(&fresh[0]);
    params_default(&fresh[1]);
}

static void end(void)
{
    schedule_free(&plan);
}

static int parse(const char *text)
{
    return profile_parse("x.ini", text, strlen(text), fresh, &plan, error);
}

START_TEST(test_sections_set_their_directions)
{
    ck_assert_int_eq(parse("; a comment\n"
                           "[both]\n"
                           "delay = 25ms ; and one here\n"
                           "  loss=0.5%\r\n"
                           "\n"
                           "[a-to-b]\nrate = 5mbit\nqueue-max = 200ms\n"
                           "[b-to-a]\nrate = 50mbit\nreorder = yes\nburst-length = 7"),
                     0);
    ck_assert_uint_eq(fresh[0].delay_ns, 25000000);
    ck_assert_uint_eq(fresh[1].delay_ns, 25000000);
    ck_assert(fresh[0].loss == 0.005 && fresh[1].loss == 0.005);
    ck_assert_uint_eq(fresh[0].rate_bps, 5000000);
    ck_assert_uint_eq(fresh[0].queue_max_ns, 200000000);
    ck_assert_uint_eq(fresh[1].rate_bps, 50000000);
    ck_assert(!fresh[0].reorder && fresh[1].reorder);
    ck_assert_uint_eq(fresh[1].burst_packets, 7);
    ck_assert_uint_eq(plan.count, 0);
}
END_TEST

START_TEST(test_events_are_sorted_by_time)
{
    ck_assert_int_eq(parse("[schedule]\nat 90s = up\nat 30s = down\nat 2m = set both rate 10mbit\n"
                           "at 30s = set a-to-b delay 5ms\nrepeat = 3m\n"),
                     0);
    ck_assert_uint_eq(plan.count, 4);
    ck_assert_uint_eq(plan.repeat_ns, UINT64_C(180000000000));
    ck_assert_str_eq(plan.events[0].change, "down");
    ck_assert_str_eq(plan.events[1].change, "set a-to-b delay 5ms");
    ck_assert_str_eq(plan.events[2].change, "up");
    ck_assert_str_eq(plan.events[3].change, "set both rate 10mbit");
    ck_assert_uint_eq(plan.events[3].at_ns, UINT64_C(120000000000));
}
END_TEST

START_TEST(test_a_later_profile_overrides)
{
    ck_assert_int_eq(parse("[both]\ndelay = 1ms\nrate = 1mbit\n[schedule]\nat 1s = down\n"), 0);
    ck_assert_int_eq(parse("[both]\ndelay = 2ms\n"), 0);
    ck_assert_uint_eq(plan.count, 1);
    ck_assert_uint_eq(fresh[0].delay_ns, 2000000);
    ck_assert_uint_eq(fresh[0].rate_bps, 1000000);
    ck_assert_int_eq(parse("[schedule]\nat 1s = down\nat 2s = up\n"), 0);
    ck_assert_uint_eq(plan.count, 2);
    ck_assert_int_eq(parse("[schedule]\n"), 0);
    ck_assert_uint_eq(plan.count, 0);
}
END_TEST

static const struct {
    const char *text;
    unsigned line;
    const char *word; /* in the sentence */
} wrong[] = {
    {"rate = 1mbit\n", 1, "section"},
    {"[both]\nrate = fast\n", 2, "rate"},
    {"[both]\n\n; \nburst-length = 0\n", 4, "burst-length"},
    {"[both]\nreorder = perhaps\n", 2, "reorder"},
    {"[both]\nduplicate = 2\n", 2, "duplicate"},
    {"[both]\ncorrupt = -1%\n", 2, "corrupt"},
    {"[both]\nburst = 101%\n", 2, "burst"},
    {"[both]\nburst-loss = much\n", 2, "burst-loss"},
    {"[both]\nqueue-max = 0\n", 2, "queue-max"},
    {"[both]\nspeed = 1mbit\n", 2, "speed"},
    {"[both]\nrate\n", 2, "KEY = VALUE"},
    {"[both]\nrate = 1mbit\n  and more\n", 3, "KEY = VALUE"},
    {"[sideways]\n", 1, "sideways"},
    {"[both\nrate = 1mbit\n", 1, "heading"},
    {"[a-heading-that-is-longer-than-all-that-there-are]\n", 1, "heading"},
    {"[schedule]\nat 1s = explode\n", 2, "change"},
    {"[schedule]\nat 1s = set both rate\n", 2, "pairs"},
    {"[schedule]\nat 1s = set both rate fast\n", 2, "rate"},
    {"[schedule]\nat 1s = set nowhere rate 1mbit\n", 2, "nowhere"},
    {"[schedule]\nat 1s =\n", 2, "change"},
    {"[schedule]\nat = down\n", 2, "at TIME"},
    {"[schedule]\na = down\n", 2, "at TIME"},
    {"[schedule]\nat 1 = down\n", 2, "at TIME"},
    {"[schedule]\nat 8000h = down\n", 2, "at TIME"},
    {"[schedule]\nin 1s = down\n", 2, "at TIME"},
    {"[schedule]\nrepeat = never\n", 2, "repeat"},
    {"[schedule]\nrepeat = 9ms\n", 2, "repeat"},
    {"[schedule]\nrepeat = 10s\n", 2, "nothing to repeat"},
    {"[schedule]\nat 11s = down\nrepeat = 10s\n", 3, "longer"},
    {"[schedule]\nat 1s = down\n[both]\n[schedule]\n", 4, "second"},
};

START_TEST(test_what_is_wrong_is_named_with_its_line)
{
    struct link_params before[WANEM_DIRECTIONS];
    char place[32];
    memcpy(before, fresh, sizeof before);
    ck_assert_int_eq(parse(wrong[_i].text), -EINVAL);
    snprintf(place, sizeof place, "x.ini:%u: ", wrong[_i].line);
    ck_assert_msg(strncmp(error, place, strlen(place)) == 0, "%s: %s", wrong[_i].text, error);
    ck_assert_msg(strstr(error, wrong[_i].word) != NULL, "%s: %s", wrong[_i].text, error);
    ck_assert_mem_eq(before, fresh, sizeof before);
    ck_assert_uint_eq(plan.count, 0);
}
END_TEST

START_TEST(test_odd_bytes_are_refused)
{
    char text[1024] = "[both]\n; ";
    memset(text + strlen(text), 'x', 300);
    ck_assert_int_eq(parse(text), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "x.ini:2: the line has 302 characters"));
    ck_assert_int_eq(profile_parse("x.ini", "[both]\nloss = 1\0%\n", 18, fresh, &plan, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "x.ini:2: there is a NUL"));
    ck_assert_int_eq(profile_parse("x.ini", "", 0, fresh, &plan, error), 0);
}
END_TEST

START_TEST(test_a_schedule_has_a_bound)
{
    static char text[64 << 10] = "[schedule]\n";
    size_t used = strlen(text);
    for (unsigned i = 0; i <= SCHEDULE_EVENTS_MAX; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "at %us = down\n", SCHEDULE_EVENTS_MAX - i);
    }
    ck_assert_int_eq(parse(text), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "x.ini:1002: a schedule has at most 1000"));
    text[used - strlen("at 0s = down\n")] = '\0';
    ck_assert_int_eq(parse(text), 0);
    ck_assert_uint_eq(plan.count, 1000);
    for (size_t i = 0; i < plan.count; i++) {
        ck_assert_uint_eq(plan.events[i].at_ns, (i + 1) * UINT64_C(1000000000));
    }
}
END_TEST

START_TEST(test_a_queue_that_lets_nothing_pass_is_found_in_the_second_round)
{
    /* The first event comes before the rate is low, and again when it is. */
    ck_assert_int_eq(parse("[both]\nrate = 10mbit\n[schedule]\nat 1s = set both queue 2ms\n"
                           "at 2s = set both queue 10ms\nat 3s = set both rate 1mbit\n"),
                     0);
    ck_assert_int_eq(schedule_check(&plan, fresh, 1250, error), 0);
    plan.repeat_ns = UINT64_C(4000000000);
    ck_assert_int_eq(schedule_check(&plan, fresh, 1250, error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "set both queue 2ms"));
}
END_TEST

START_TEST(test_changes_are_all_or_nothing)
{
    static const char *const refused[] = {
        "",
        "explode",
        "set",
        "set both",
        "set both rate",
        "set nowhere rate 1mbit",
        "down here",
        "up both both",
        "set both rate 2mbit loss 200%",
        "set both queue 1000",
        "stats",
        "set both rate 2mbit speed",
    };
    struct link_params before[WANEM_DIRECTIONS];
    char why[PARAMS_ERROR_MAX], many[600] = "set both";
    memcpy(before, fresh, sizeof before);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ck_assert_msg(link_change(fresh, refused[i], 1500, why) == -EINVAL, "%s", refused[i]);
        ck_assert_mem_eq(before, fresh, sizeof before);
    }
    for (int i = 0; i < 16; i++) {
        strcat(many, " loss 1%");
    }
    ck_assert_int_eq(link_change(fresh, many, 1500, why), -EINVAL);
    memset(many, ' ', sizeof many - 1);
    ck_assert_int_eq(link_change(fresh, many, 1500, why), -EINVAL);
    ck_assert_mem_eq(before, fresh, sizeof before);
    ck_assert_int_eq(link_change(fresh, "  down\ta-to-b ", 1500, why), 0);
    ck_assert(!fresh[0].link_up && fresh[1].link_up);
    ck_assert_int_eq(link_change(fresh, "set both rate 2mbit loss 3% link up", 1500, why), 0);
    ck_assert(fresh[0].link_up && fresh[1].rate_bps == 2000000 && fresh[0].loss == 0.03);
}
END_TEST

/* The events of an emulator that starts at 1000 s, each at its time; the pumps are addresses only. */
static struct emulator *start(struct emulator *emulator, const char *text)
{
    *emulator = (struct emulator){.mtu = 1500};
    for (size_t i = 0; i < WANEM_DIRECTIONS; i++) {
        emulator->pumps[i] = (struct pump *)(void *)((char *)told + i);
    }
    ck_assert_int_eq(parse(text), 0);
    memcpy(emulator->link, fresh, sizeof fresh);
    emulator->schedule = plan;
    emulator_start(emulator, 1000 * UINT64_C(1000000000));
    return emulator;
}

static void expect(struct emulator *emulator, unsigned at_ms, const char *change)
{
    char why[PARAMS_ERROR_MAX];
    ck_assert_uint_eq(emulator_event_ns(emulator), 1000000 * (UINT64_C(1000000) + at_ms));
    ck_assert_str_eq(emulator_event(emulator, why), change);
    ck_assert_str_eq(why, "");
}

START_TEST(test_a_schedule_ends)
{
    struct emulator emulator;
    start(&emulator,
          "[both]\nrate = 10mbit\ndelay = 50ms\n[schedule]\nat 0 = set both delay 100ms\nat 2s = down\n"
          "at 2s = up a-to-b\n");
    ck_assert_uint_eq(told_limit[0], 125000);
    expect(&emulator, 0, "set both delay 100ms");
    ck_assert_uint_eq(told[1].delay_ns, 100000000);
    expect(&emulator, 2000, "down");
    ck_assert(!told[0].link_up && !told[1].link_up);
    expect(&emulator, 2000, "up a-to-b");
    ck_assert(told[0].link_up && !told[1].link_up);
    ck_assert_uint_eq(emulator_event_ns(&emulator), EMULATOR_NEVER);
}
END_TEST

START_TEST(test_a_schedule_begins_anew)
{
    struct emulator emulator;
    start(&emulator, "[schedule]\nat 1s = down\nat 2500ms = up\nrepeat = 2500ms\n");
    for (unsigned round = 0; round < 3; round++) {
        expect(&emulator, 2500 * round + 1000, "down");
        expect(&emulator, 2500 * round + 2500, "up");
    }
}
END_TEST

START_TEST(test_an_event_that_has_become_impossible_is_passed_over)
{
    struct emulator emulator;
    char why[PARAMS_ERROR_MAX];
    start(&emulator, "[both]\nrate = 10mbit\n[schedule]\nat 1s = set both queue 2ms\nat 2s = down\n");
    ck_assert_int_eq(emulator_change(&emulator, "set both rate 1mbit", why), 0);
    emulator_event(&emulator, why);
    ck_assert_ptr_nonnull(strstr(why, "queue: 250 bytes"));
    ck_assert_int_eq(told[0].queue_form, QUEUE_AUTO);
    expect(&emulator, 2000, "down");
    ck_assert(!told[0].link_up);
}
END_TEST

START_TEST(test_a_file_that_is_not_there_is_named)
{
    char name[PROFILE_NAME_MAX];
    ck_assert_int_eq(profile_read("moon", fresh, &plan, name, error), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error, "/nowhere/moon.ini"));
    ck_assert_int_eq(profile_read("/", fresh, &plan, name, error), -EISDIR);
    ck_assert_int_eq(profile_read("/dev/zero", fresh, &plan, name, error), -EFBIG);
}
END_TEST

START_TEST(test_the_profiles_that_come_along)
{
    static const char *const names[] = {"lan", "vpn",       "branch", "intercontinental",
                                        "geo", "geo-clean", "leo",    "leo-handover",
                                        "3g",  "fade",      "t1",     "outage"};
    const char *source = getenv("HAWSER_SOURCE");
    ck_assert_msg(source != NULL, "HAWSER_SOURCE is not set");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4096], name[PROFILE_NAME_MAX];
        begin();
        snprintf(path, sizeof path, "%s/etc/wanem/%s.ini", source, names[i]);
        ck_assert_msg(profile_read(path, fresh, &plan, name, error) == 0, "%s", error);
        ck_assert_str_eq(name, names[i]);
        ck_assert_int_eq(schedule_check(&plan, fresh, 1500, error), 0);
        bool changes =
            strcmp(name, "fade") == 0 || strcmp(name, "leo-handover") == 0 || strcmp(name, "outage") == 0;
        ck_assert_msg((plan.count > 0) == changes, "%s", name);
        schedule_free(&plan);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wanem_profile");
    TCase *cases = tcase_create("profile");
    tcase_add_checked_fixture(cases, begin, end);
    tcase_add_test(cases, test_sections_set_their_directions);
    tcase_add_test(cases, test_events_are_sorted_by_time);
    tcase_add_test(cases, test_a_later_profile_overrides);
    tcase_add_loop_test(cases, test_what_is_wrong_is_named_with_its_line, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(cases, test_odd_bytes_are_refused);
    tcase_add_test(cases, test_a_schedule_has_a_bound);
    tcase_add_test(cases, test_a_queue_that_lets_nothing_pass_is_found_in_the_second_round);
    tcase_add_test(cases, test_changes_are_all_or_nothing);
    tcase_add_test(cases, test_a_schedule_ends);
    tcase_add_test(cases, test_a_schedule_begins_anew);
    tcase_add_test(cases, test_an_event_that_has_become_impossible_is_passed_over);
    tcase_add_test(cases, test_a_file_that_is_not_there_is_named);
    tcase_add_test(cases, test_the_profiles_that_come_along);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
