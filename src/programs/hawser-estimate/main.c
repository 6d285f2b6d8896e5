/* main.c - hawser-estimate(1): what hawser would send of given files or captured connections, before it is
 * deployed. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "estimate.h"
#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/err.h"
#include "hawser/units.h"

enum exit_code { EXIT_FINE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };
enum { STORE_SHARE = 8, LINK_TEXT_MAX = 64 }; /* of the machine's memory: what hawserd takes by default */

struct options {
    bool pcap, json;
    int level;
    uint64_t store_bytes, rate_bits_per_s, rtt_us;
};

static int complain(const char *text)
{
    fprintf(stderr, "hawser-estimate: %s\n", text);
    return EXIT_REFUSED;
}

static void print_usage(FILE *to)
{
    fputs("usage: hawser-estimate [OPTION...] PATH...\n\n"
          "What hawser would send over a link for these files and folders, the first time and again.\n\n"
          "      --pcap           PATHs are captures (tcpdump -w); their TCP connections count\n"
          "      --link RATE,RTT  also say how long it takes, e.g. 10mbit,600ms\n"
          "      --store SIZE     memory of the store (default: an eighth of this machine's)\n"
          "      --level N        of zstd, 1 to 19, or 0 for none (default 1)\n"
          "      --json           as JSON\n"
          "  -V, --version        print the version\n"
          "  -h, --help           print this\n",
          to);
}

static uint64_t default_store(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / STORE_SHARE : 0;
    return bytes > STORE_LEAST_BYTES ? bytes : STORE_LEAST_BYTES;
}

/* ---- options ---- */

static bool parse_link(const char *text, struct options *o)
{
    char copy[LINK_TEXT_MAX];
    if (strlen(text) >= sizeof(copy))
        return false;
    memcpy(copy, text, strlen(text) + 1);
    char *comma = strchr(copy, ',');
    if (comma == NULL)
        return false;
    *comma = '\0';
    return units_parse_bits_per_s(copy, &o->rate_bits_per_s) == 0 && o->rate_bits_per_s > 0 &&
           units_parse_time_us(comma + 1, &o->rtt_us) == 0;
}

static bool parse_level(const char *text, int *out)
{
    uint64_t level;
    if (units_parse_count(text, &level) < 0 || level > COMPRESS_LEVEL_MAX)
        return false;
    *out = (int)level;
    return true;
}

static bool parse_store(const char *text, uint64_t *out)
{
    return units_parse_bytes(text, out) == 0 && *out >= STORE_LEAST_BYTES;
}

/* -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { PCAP = 256, LINK, STORE, LEVEL, JSON };
    static const struct option long_options[] = {
        {"pcap", no_argument, NULL, PCAP},         {"link", required_argument, NULL, LINK},
        {"store", required_argument, NULL, STORE}, {"level", required_argument, NULL, LEVEL},
        {"json", no_argument, NULL, JSON},         {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    const char *wrong = NULL;
    int letter;
    while (wrong == NULL && (letter = getopt_long(argc, argv, "Vh", long_options, NULL)) != -1) {
        switch (letter) {
        case PCAP:
            o->pcap = true;
            break;
        case JSON:
            o->json = true;
            break;
        case LINK:
            wrong = parse_link(optarg, o) ? NULL : "--link takes RATE,RTT, as in 10mbit,600ms";
            break;
        case STORE:
            wrong =
                parse_store(optarg, &o->store_bytes) ? NULL : "--store takes a size of 64M or more, as in 2G";
            break;
        case LEVEL:
            wrong = parse_level(optarg, &o->level) ? NULL : "--level takes a number from 0 to 19";
            break;
        case 'V':
            printf("hawser-estimate %s\n", HAWSER_VERSION);
            return EXIT_FINE;
        case 'h':
            print_usage(stdout);
            return EXIT_FINE;
        default: /* getopt_long has said what is wrong */
            fputs("hawser-estimate --help lists the options\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (wrong == NULL && optind == argc)
        wrong = "give it the files, folders or captures to look at";
    if (wrong == NULL)
        return -1;
    complain(wrong);
    fputs("hawser-estimate --help lists the options\n", stderr);
    return EXIT_USAGE;
}

/* ---- the run ---- */

static int carry_passes(struct run *run, const struct options *o, char *const paths[],
                        struct skipped *skipped, char error[static ERROR_MAX])
{
    int err = 0;
    for (int pass = 0; err == 0 && pass < PASSES; pass++) {
        struct skipped again = {.unreadable = UINT64_MAX / 2}; /* said already */
        struct skipped *of_pass = pass == PASS_COLD ? skipped : &again;
        run->pass = (enum pass)pass;
        err = o->pcap ? captures_carry(run, paths, of_pass, error) : files_carry(run, paths, of_pass, error);
    }
    progress_end(run);
    return err;
}

static int show(const struct options *o, struct run *run, const struct skipped *skipped)
{
    struct shown shown = {.tally = &run->tally,
                          .skipped = skipped,
                          .noun = o->pcap ? "CONNS" : "FILES",
                          .level = o->level,
                          .rate_bits_per_s = o->rate_bits_per_s,
                          .rtt_us = o->rtt_us};
    struct tally_type sum;
    tally_sort(&run->tally);
    tally_sum(&run->tally, &sum);
    bool nothing = sum.passes[PASS_COLD].bytes == 0;
    if (nothing && skipped->unreadable > 0) {
        fprintf(stderr,
                "hawser-estimate: there is nothing to count: %" PRIu64
                " files or folders could not be read; run it as a user who may read them\n",
                skipped->unreadable);
        return EXIT_REFUSED;
    }
    if (nothing)
        complain(o->pcap ? "there is nothing to count: the capture has no TCP connection with data"
                         : "there is nothing to count: what was named is empty");
    carry_read_store(run->carry, &shown.store);
    if (o->json)
        show_json(&shown);
    else
        show_text(&shown);
    return EXIT_FINE;
}

static int estimate(const struct options *o, char *const paths[])
{
    static struct run run;
    struct skipped skipped = {0};
    char error[ERROR_MAX];
    uint64_t bytes;
    int err = o->pcap ? captures_measure(paths, &bytes, error) : files_measure(paths, &bytes, error);
    if (err < 0)
        return complain(error);
    if (carry_new(&run.carry, o->store_bytes, o->level) < 0)
        return complain("no memory for the store; give it a smaller --store");
    run.bytes_total = PASSES * bytes;
    run.began_us = clock_now_us();
    run.shows_progress = isatty(STDERR_FILENO) == 1;
    int code = carry_passes(&run, o, paths, &skipped, error) < 0 ? complain(error) : show(o, &run, &skipped);
    carry_free(run.carry);
    return code;
}

int main(int argc, char **argv)
{
    struct options options = {.level = COMPRESS_LEVEL_MIN, .store_bytes = default_store()};
    setlocale(LC_CTYPE, "");
    int code = parse_options(argc, argv, &options);
    if (code < 0)
        code = estimate(&options, argv + optind);
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain("cannot write the output; is the disk full?");
    return code;
}
