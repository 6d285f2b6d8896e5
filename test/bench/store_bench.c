/* store_bench.c - what the store costs and saves, on files.
 *
 * store_bench [--cold] FILE...   each file is a pass of one new stream through the same two stores, in spans
 * of 64 KB: a near store takes, a far one is filled with literals and resolves references. Name a file twice
 * to see it come again. --cold: the near store knows samples of COLD_BYTES on disk, of other bytes.
 *
 * GB/s are 1e9 bytes a second of processor time of one thread; 'wire' counts literal bytes and
 * REFERENCE_BYTES a reference. Beside them: memcmp of equal bytes and AES-128-GCM in records of 16 KB, on the
 * first file, as yardsticks of the same run. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hawser/anchors.h"
#include "hawser/store.h"

enum {
    SPAN_BYTES = STORE_TAKE_MOST_BYTES,
    RECORD_BYTES = 16384,
    REFERENCE_BYTES = 6,
    SAMPLE_BYTES = 64 << 20, /* of the first file, for the yardsticks */
    ROUNDS = 3,              /* of each yardstick; the best counts */
    SPANS_A_ROUND = 64       /* taken, then carried over, so that reading the clock costs nothing */
};

#define STORE_BYTES (4ULL << 30)
#define COLD_BYTES  (16ULL << 30)

struct file {
    uint8_t *bytes;
    size_t len;
};

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "store_bench: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double gb_per_second(uint64_t bytes, double seconds)
{
    return seconds > 0 ? (double)bytes / seconds / 1e9 : 0;
}

static struct file file_read(const char *name)
{
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        fail("cannot read", name);
    struct file f = {.len = (size_t)st.st_size};
    f.bytes = malloc(f.len > 0 ? f.len : 1);
    if (f.bytes == NULL)
        fail("no memory for", name);
    for (size_t at = 0; at < f.len;) {
        ssize_t n = read(fd, f.bytes + at, f.len - at);
        if (n <= 0)
            fail("cannot read", name);
        at += (size_t)n;
    }
    close(fd);
    return f;
}

/* ---- yardsticks ---- */

/* volatile: what is measured must not be dropped as unused */
static volatile uint64_t sink;

static void compare(const struct file *f, void *arg)
{
    const uint8_t *copy = arg;
    for (size_t at = 0; at < f->len; at += SPAN_BYTES) {
        size_t len = f->len - at < SPAN_BYTES ? f->len - at : SPAN_BYTES;
        sink += (uint64_t)(memcmp(f->bytes + at, copy + at, len) != 0);
    }
}

static void encrypt(const struct file *f, void *arg)
{
    static const uint8_t key[16] = {1}, nonce[12] = {2};
    static uint8_t out[RECORD_BYTES], tag[16];
    EVP_CIPHER_CTX *cipher = arg;
    for (size_t at = 0; at < f->len; at += RECORD_BYTES) {
        int n, len = (int)(f->len - at < RECORD_BYTES ? f->len - at : RECORD_BYTES);
        if (EVP_EncryptInit_ex(cipher, at == 0 ? EVP_aes_128_gcm() : NULL, NULL, key, nonce) != 1 ||
            EVP_EncryptUpdate(cipher, out, &n, f->bytes + at, len) != 1 ||
            EVP_EncryptFinal_ex(cipher, out, &n) != 1 ||
            EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, sizeof(tag), tag) != 1)
            fail("cannot encrypt with", "AES-128-GCM");
        sink += tag[0];
    }
}

static void find_anchors(const struct file *f, void *arg)
{
    static uint32_t found[SPAN_BYTES / ANCHORS_GAP_BYTES + 1];
    const struct anchors *a = arg;
    for (size_t at = 0; at + ANCHORS_WINDOW_BYTES <= f->len; at += SPAN_BYTES) {
        size_t len = f->len - at < SPAN_BYTES ? f->len - at : SPAN_BYTES;
        sink += anchors_find(a, f->bytes + at, 0, (uint32_t)len - (ANCHORS_WINDOW_BYTES - 1), 256, found);
    }
}

static void measure(const char *name, const struct file *f, void (*run)(const struct file *f, void *arg),
                    void *arg)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double from = processor_seconds();
        run(f, arg);
        double took = processor_seconds() - from;
        best = took < best ? took : best;
    }
    printf("%-28s %7.2f GB/s\n", name, gb_per_second(f->len, best));
}

static void measure_yardsticks(const struct file *whole)
{
    struct file f = {.bytes = whole->bytes, .len = whole->len < SAMPLE_BYTES ? whole->len : SAMPLE_BYTES};
    uint8_t *copy = malloc(f.len > 0 ? f.len : 1);
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (copy == NULL || cipher == NULL)
        fail("no memory for", "the yardsticks");
    memcpy(copy, f.bytes, f.len);
    measure("memcmp", &f, compare, copy);
    measure("AES-128-GCM, 16 KB records", &f, encrypt, cipher);
    for (int v = 0; v < ANCHORS_VARIANTS; v++) {
        struct anchors a;
        char name[64];
        anchors_init(&a, 1);
        a.variant = (enum anchors_variant)v;
        snprintf(name, sizeof(name), "anchors, %s", anchors_name(a.variant));
        if (anchors_have(a.variant))
            measure(name, &f, find_anchors, &a);
    }
    EVP_CIPHER_CTX_free(cipher);
    free(copy);
}

/* Fresh memory may cost a hypervisor's time before the kernel's: bring as much as will be used into the
 * machine, and give it back. */
static void warm_up(uint64_t bytes)
{
    uint8_t *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        fail("no memory for", "the stores");
    madvise(area, bytes, MADV_HUGEPAGE);
    memset(area, 1, bytes);
    munmap(area, bytes);
}

/* ---- passes ---- */

struct carried {
    struct slice piece, there;
};

/* Pieces on their way from the near store to the far one. */
struct way {
    struct store *far;
    struct carried *pieces;
    uint32_t count, cap;
    uint64_t literal_bytes, references;
};

static int carry(void *arg, struct slice piece)
{
    struct way *w = arg;
    if (w->count == w->cap) {
        uint32_t cap = w->cap == 0 ? 4096 : w->cap * 2;
        struct carried *pieces = realloc(w->pieces, cap * sizeof(*pieces));
        if (pieces == NULL)
            return -ENOMEM;
        w->pieces = pieces;
        w->cap = cap;
    }
    w->pieces[w->count] = (struct carried){.piece = piece};
    w->count++;
    return 0;
}

static void fill(struct way *w, const struct segment_id *id, uint32_t off, const struct slice *bytes,
                 struct slice *there)
{
    int err = store_fill(w->far, 1, id, off, slice_bytes(bytes), bytes->len, there);
    if (err < 0) {
        fprintf(stderr, "store_bench: the far store does not take what the near one sent: %s\n",
                strerror(-err));
        exit(1);
    }
}

static void arrive(struct way *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct carried *c = &w->pieces[i];
        if (store_resolve(w->far, &c->piece.chunk->segment, c->piece.off, c->piece.len, &c->there)) {
            w->references++;
        } else {
            w->literal_bytes += c->piece.len;
            fill(w, &c->piece.chunk->segment, c->piece.off, &c->piece, &c->there);
        }
    }
}

static void check_and_drop(struct way *w)
{
    while (w->count > 0) {
        struct carried *c = &w->pieces[--w->count];
        if (memcmp(slice_bytes(&c->there), slice_bytes(&c->piece), c->piece.len) != 0) {
            fprintf(stderr, "store_bench: other bytes arrived than were sent\n");
            exit(1);
        }
        chunk_unref(c->there.chunk);
        chunk_unref(c->piece.chunk);
    }
}

static void pass(struct store *near, struct store *far, const char *name, const struct file *f)
{
    struct way w = {.far = far};
    struct store_stream stream = {0};
    double taking_seconds = 0, arriving_seconds = 0;
    for (size_t at = 0; at < f->len;) {
        double from = processor_seconds();
        for (int i = 0; i < SPANS_A_ROUND && at < f->len; i++) {
            uint32_t len = f->len - at < SPAN_BYTES ? (uint32_t)(f->len - at) : SPAN_BYTES;
            int err = store_take(near, &stream, f->bytes + at, len, carry, &w);
            if (err < 0) {
                fprintf(stderr, "store_bench: the near store takes no more: %s\n", strerror(-err));
                exit(1);
            }
            at += len;
        }
        double between = processor_seconds();
        arrive(&w);
        taking_seconds += between - from;
        arriving_seconds += processor_seconds() - between;
        check_and_drop(&w);
    }
    store_stream_end(near, &stream);
    uint64_t wire = w.literal_bytes + w.references * REFERENCE_BYTES;
    const char *base = strrchr(name, '/');
    printf(
        "%-20.20s %7.2f MB  take %6.2f GB/s  fill and resolve %6.2f GB/s  wire %8.3f MB  %6llu references\n",
        base != NULL ? base + 1 : name, (double)f->len / 1e6, gb_per_second(f->len, taking_seconds),
        gb_per_second(f->len, arriving_seconds), (double)wire / 1e6, (unsigned long long)w.references);
    free(w.pieces);
}

static void report(const char *name, const struct store *s, const struct budget *memory)
{
    struct store_counters c;
    store_read_counters(s, &c);
    printf("%-4s store: %.1f MB in %llu segments, memory %.1f MB; index %.1f MB (%.1f MB a GB), %llu hints\n",
           name, (double)c.segment_bytes / 1e6, (unsigned long long)c.segments,
           (double)budget_used(memory) / 1e6, (double)c.index_bytes / 1e6,
           c.segment_bytes > 0 ? (double)c.index_bytes / (double)c.segment_bytes * 1e3 : 0,
           (unsigned long long)c.hints);
}

static void ignore_wake(void *arg)
{
    (void)arg;
}

/* Keys at random: no byte that is taken has them. */
static void know_of_a_disk(struct store *s)
{
    static struct sample sample = {.count = STORE_SEGMENT_BYTES / SAMPLE_STRIDE_BYTES - 16};
    uint64_t word = 88172645463325252ULL;
    if (store_cold_begin(s, COLD_BYTES, ignore_wake, NULL) < 0)
        fail("no memory for", "the table of what is on disk");
    for (uint32_t number = 1; number <= COLD_BYTES / STORE_SEGMENT_BYTES; number++) {
        struct segment_id id = {.epoch = 3, .number = number};
        for (uint32_t i = 0; i < sample.count; i++) {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            sample.keys[i] = word >> SAMPLE_BITS;
        }
        store_cold_note(s, &id, 3, &sample);
    }
}

int main(int argc, char **argv)
{
    struct budget near_memory, far_memory;
    struct store *near, *far;
    uint64_t total = 0;
    bool cold = argc > 1 && strcmp(argv[1], "--cold") == 0;
    argc -= cold;
    argv += cold;
    if (argc < 2) {
        fprintf(stderr, "usage: store_bench [--cold] FILE...\n");
        return 2;
    }
    struct file *files = calloc((size_t)argc, sizeof(*files));
    if (files == NULL)
        fail("no memory for", "the files");
    for (int i = 1; i < argc; i++) {
        files[i] = file_read(argv[i]);
        total += files[i].len;
    }
    measure_yardsticks(&files[1]);
    warm_up(2 * total + STORE_SEGMENT_BYTES);
    budget_init(&near_memory, STORE_BYTES);
    budget_init(&far_memory, STORE_BYTES);
    if (store_new(&near, &near_memory, STORE_BYTES, 1, 1, NULL, NULL) < 0 ||
        store_new(&far, &far_memory, STORE_BYTES, 2, 2, NULL, NULL) < 0)
        fail("no memory for", "the stores");
    if (cold)
        know_of_a_disk(near);
    for (int i = 1; i < argc; i++)
        pass(near, far, argv[i], &files[i]);
    report("near", near, &near_memory);
    report("far", far, &far_memory);
    store_free(near);
    store_free(far);
    for (int i = 1; i < argc; i++)
        free(files[i].bytes);
    free(files);
    return 0;
}
