/* compress_bench.c - what a lane's stream of blocks costs beside zstd over the whole file.
 * Usage: compress_bench [-l LEVEL] FILE...
 * For each file: its size; zstd of the whole file in one frame (bytes, CPU seconds a GB); the same bytes as a
 * lane sends them, in blocks, each sampled, compressed or raw, with block headers and the 22 bytes of a TLS
 * record (bytes, share of the whole file's, CPU); decoding those blocks (CPU); and the share of the bytes
 * that the sample left raw, with what zstd would have saved on them in percent: the price of the sample. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "hawser/clock.h"
#include "hawser/compress.h"

enum { RECORD_BYTES = 16384, RECORD_OVERHEAD = 22 };

struct file {
    uint8_t *bytes;
    size_t len;
};

struct figures {
    uint64_t wire, skipped, skipped_zstd;
    uint64_t out_us, in_us;
};

static void stop(const char *what)
{
    fprintf(stderr, "compress_bench: %s\n", what);
    exit(1);
}

static struct file read_file(const char *path)
{
    struct file f = {0};
    FILE *in = fopen(path, "rb");
    if (in == NULL || fseek(in, 0, SEEK_END) < 0)
        stop(path);
    f.len = (size_t)ftell(in);
    rewind(in);
    f.bytes = malloc(f.len + 1);
    if (f.bytes == NULL || fread(f.bytes, 1, f.len, in) != f.len)
        stop(path);
    fclose(in);
    return f;
}

static uint64_t whole(const struct file *f, int level, uint64_t *us)
{
    size_t room = ZSTD_compressBound(f->len);
    uint8_t *out = malloc(room);
    if (out == NULL)
        stop("out of memory");
    memset(out, 0, room); /* its page faults are not zstd's */
    uint64_t start = clock_thread_cpu_us();
    size_t n = ZSTD_compress(out, room, f->bytes, f->len, level);
    *us = clock_thread_cpu_us() - start;
    free(out);
    return n;
}

static uint64_t on_the_wire(size_t payload)
{
    size_t block = BLOCK_HEADER_BYTES + payload;
    return block + (block + RECORD_BYTES - 1) / RECORD_BYTES * RECORD_OVERHEAD;
}

/* What zstd would have made of bytes that went raw. */
static uint64_t alone(const uint8_t *bytes, size_t len)
{
    static uint8_t out[ZSTD_COMPRESSBOUND(COMPRESS_INPUT_MAX)];
    return ZSTD_compress(out, sizeof(out), bytes, len, 1);
}

static void decode(struct decompressor *d, const uint8_t *payload, size_t len, const uint8_t *expected)
{
    static uint8_t out[BLOCK_PAYLOAD_MAX];
    uint32_t out_len;
    const uint8_t *piece;
    size_t piece_len;
    if (compress_payload_get(payload, len, &out_len, &piece, &piece_len) < 0 ||
        decompressor_get(d, out, out_len, piece, piece_len) < 0)
        stop("a block does not decode");
    if (memcmp(out, expected, out_len) != 0)
        stop("a block decodes to something else");
}

static struct figures blocks(const struct file *f, int level)
{
    static uint8_t payload[BLOCK_PAYLOAD_MAX];
    struct figures r = {0};
    struct compressor *c = compressor_take(level);
    struct decompressor *d = decompressor_take();
    if (c == NULL || d == NULL)
        stop("out of memory");
    for (size_t at = 0; at < f->len; at += COMPRESS_INPUT_MAX) {
        size_t len = f->len - at < COMPRESS_INPUT_MAX ? f->len - at : COMPRESS_INPUT_MAX;
        uint64_t start = clock_thread_cpu_us();
        bool worth = compress_is_worth(f->bytes + at, len);
        int n = worth ? compressor_put(c, payload, f->bytes + at, len, false) : (int)len;
        uint64_t middle = clock_thread_cpu_us();
        if (n < 0)
            stop("zstd fails");
        r.out_us += middle - start;
        r.wire += on_the_wire((size_t)n);
        if (worth) {
            decode(d, payload, (size_t)n, f->bytes + at);
            r.in_us += clock_thread_cpu_us() - middle;
        } else {
            r.skipped += len;
            r.skipped_zstd += alone(f->bytes + at, len);
        }
    }
    compressor_give(c);
    decompressor_give(d);
    return r;
}

static double per_gb(uint64_t us, size_t bytes)
{
    return (double)us * 1000 / (double)bytes;
}

static void measure(const char *path, int level)
{
    struct file f = read_file(path);
    if (f.len == 0)
        stop("an empty file has no figures");
    uint64_t whole_us;
    uint64_t whole_bytes = whole(&f, level, &whole_us);
    struct figures r = blocks(&f, level);
    double lost = r.skipped > 0 ? 100 - 100 * (double)r.skipped_zstd / (double)r.skipped : 0;
    printf("%-28.28s %9.1f %6.3f %6.2f  %6.3f %6.3f %6.2f %6.2f  %6.1f %6.1f\n",
           strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path, (double)f.len / 1e6,
           (double)whole_bytes / (double)f.len, per_gb(whole_us, f.len), (double)r.wire / (double)f.len,
           (double)r.wire / (double)whole_bytes, per_gb(r.out_us, f.len), per_gb(r.in_us, f.len),
           100 * (double)r.skipped / (double)f.len, lost);
    free(f.bytes);
}

int main(int argc, char **argv)
{
    int level = 1, option;
    while ((option = getopt(argc, argv, "l:")) == 'l')
        level = atoi(optarg);
    if (option != -1 || optind == argc || level < COMPRESS_LEVEL_MIN || level > COMPRESS_LEVEL_MAX) {
        fprintf(stderr, "usage: %s [-l LEVEL] FILE...   (LEVEL from 1 to 19)\n", argv[0]);
        return 2;
    }
    printf("%-28s %9s %6s %6s  %6s %6s %6s %6s  %6s %6s\n", "file", "MB", "whole", "s/GB", "lane", "/whole",
           "s/GB", "decode", "raw %", "lost %");
    for (int i = optind; i < argc; i++)
        measure(argv[i], level);
    compress_thread_end();
    return 0;
}
