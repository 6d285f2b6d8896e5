#include "figures.h"

#include <string.h>

#define BARS    12 /* of a histogram, at most */
#define BAR_LEN 40

/* The figures of both directions are large for a stack. */
static struct pump_figures read_scratch;

static const struct pump_figures *read_pump(const struct emulator *emulator, int direction)
{
    pump_read(emulator->pumps[direction], &read_scratch);
    return &read_scratch;
}

/* --- JSON -------------------------------------------------------------------------------------- */

void figures_json_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            fprintf(out, "\\%c", byte);
        } else if (byte < 0x20 || byte >= 0x7f) {
            fprintf(out, "\\u%04x", byte);
        } else {
            fputc(byte, out);
        }
    }
    fputc('"', out);
}

static void json_params(const struct pump_figures *figures, FILE *out)
{
    const struct link_params *params = &figures->params;
    fprintf(
        out,
        "\"link\": \"%s\", \"rate_bps\": %llu, \"delay_us\": %.3f, \"jitter_us\": %.3f, \"reorder\": %s, "
        "\"loss_pct\": %.6g, \"burst_pct\": %.6g, \"burst_length_packets\": %llu, \"burst_loss_pct\": %.6g, "
        "\"duplicate_pct\": %.6g, \"corrupt_pct\": %.6g, \"queue_limit_bytes\": %llu, ",
        params->link_up ? "up" : "down", (unsigned long long)params->rate_bps, (double)params->delay_ns / 1e3,
        (double)params->jitter_ns / 1e3, params->reorder ? "true" : "false", params->loss * 100,
        params->burst * 100, (unsigned long long)params->burst_packets, params->burst_loss * 100,
        params->duplicate * 100, params->corrupt * 100, (unsigned long long)figures->queue_limit);
}

static void json_histogram(const struct delays *delays, FILE *out)
{
    const char *comma = "";
    fputs(", \"delay_histogram\": [", out);
    for (size_t i = 0; i < DELAYS_BUCKETS; i++) {
        if (delays->packets[i] > 0) {
            fprintf(out, "%s[%llu, %llu]", comma, (unsigned long long)delays_from_us(i),
                    (unsigned long long)delays->packets[i]);
            comma = ", ";
        }
    }
    fputc(']', out);
}

static void json_direction(const struct pump_figures *figures, bool histogram, FILE *out)
{
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50", 0.5}, {"p99", 0.99}, {"max", 1.0}};
    const struct path_counters *counters = &figures->counters;

    fputc('{', out);
    json_params(figures, out);
#define JSON_COUNTER(name, text)                                                                             \
    fprintf(out, "\"" #name "_packets\": %llu, \"" #name "_bytes\": %llu, ",                                 \
            (unsigned long long)counters->name.packets, (unsigned long long)counters->name.bytes);
    PATH_COUNTERS(JSON_COUNTER)
#undef JSON_COUNTER
    fprintf(
        out,
        "\"inside_packets\": %llu, \"inside_bytes\": %llu, \"queue_bytes\": %llu, \"queue_max_bytes\": %llu",
        (unsigned long long)figures->inside.packets, (unsigned long long)figures->inside.bytes,
        (unsigned long long)figures->queue_bytes, (unsigned long long)counters->queue_max_bytes);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        fprintf(out, ", \"given_%s_us\": %llu, \"late_%s_us\": %llu", shares[i].name,
                (unsigned long long)delays_share_us(&counters->given, shares[i].share), shares[i].name,
                (unsigned long long)delays_share_us(&counters->late, shares[i].share));
    }
    if (histogram) {
        json_histogram(&counters->given, out);
    }
    fputc('}', out);
}

void figures_json(const struct emulator *emulator, bool histograms, FILE *out)
{
    fputs("{\"profile\": ", out);
    figures_json_string(emulator->profile, out);
    fprintf(out, ", \"mtu\": %u, \"seed\": %llu, \"uptime_ms\": %llu", emulator->mtu,
            (unsigned long long)emulator->seed,
            (unsigned long long)((emulator_now_ns() - emulator->started_ns) / 1000000));
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        fprintf(out, ", \"%s\": ", direction_name((enum wanem_direction)i));
        json_direction(read_pump(emulator, i), histograms, out);
    }
    fputs("}\n", out);
}

/* --- text -------------------------------------------------------------------------------------- */

/* Three digits and, before the unit, the letter of their power of 1000: "49.8 Mbit/s". */
static const char *short_number(double number, const char *unit, char out[24])
{
    static const char *const letters[] = {"", "k", "M", "G", "T", "P"};
    size_t power = 0;
    while (number >= 999.5 && power + 1 < sizeof letters / sizeof letters[0]) {
        number /= 1000;
        power++;
    }
    int decimals = power == 0 || number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2;
    const char *space = power > 0 || unit[0] != '\0' ? " " : "";
    snprintf(out, 24, "%.*f%s%s%s", decimals, number, space, letters[power], unit);
    return out;
}

void figures_live_start(const struct emulator *emulator, struct figures_live *live)
{
    live->last_ns = emulator_now_ns();
    live->shown = false;
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        pump_read(emulator->pumps[i], &live->last[i]);
    }
}

static void live_direction(const struct pump_figures *now, const struct pump_figures *last, double seconds,
                           FILE *out)
{
    char rate[24], packets[24], queue[24], number[24];
    const char *before_drop = "; dropped: ";
    const struct path_counters *after = &now->counters, *before = &last->counters;
    /* `zero` in between: from nothing on */
    bool zeroed = after->in.packets < before->in.packets || after->out.packets < before->out.packets;
#define SINCE(name, unit) ((double)(after->name.unit - (zeroed ? 0 : before->name.unit)))
    fprintf(out, " %s %s queue %s", short_number(SINCE(out, bytes) * 8 / seconds, "bit/s", rate),
            short_number(SINCE(out, packets) / seconds, "pkt/s", packets),
            short_number((double)now->queue_bytes, "B", queue));
    if (!now->params.link_up) {
        fputs(", DOWN", out);
    }
#define LIVE_DROP(name, text)                                                                                \
    if (SINCE(name, packets) > 0) {                                                                          \
        fprintf(out, "%s%s %s", before_drop, &#name[sizeof "drop"],                                          \
                short_number(SINCE(name, packets), "", number));                                             \
        before_drop = ", ";                                                                                  \
    }
    PATH_DROPS(LIVE_DROP)
#undef LIVE_DROP
#undef SINCE
}

void figures_live_lines(const struct emulator *emulator, struct figures_live *live, int columns, FILE *out)
{
    char line[256];
    uint64_t now_ns = emulator_now_ns();
    figures_live_clear(live, out);
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        const struct pump_figures *now = read_pump(emulator, i);
        FILE *text = fmemopen(line, sizeof line, "w");
        if (!text) {
            line[0] = '\0'; /* the next second's may come */
        } else {
            fprintf(text, "%llu s %s", (unsigned long long)((now_ns - emulator->started_ns) / 1000000000),
                    direction_name((enum wanem_direction)i));
            live_direction(now, &live->last[i], (double)(now_ns - live->last_ns) / 1e9, text);
            fputc('\0', text);
            fclose(text);
            line[sizeof line - 1] = '\0';
        }
        /* one column less, or some terminals begin a new line */
        fprintf(out, "%s%.*s", i > 0 ? "\n" : "", columns - 1, line);
        live->last[i] = *now;
    }
    live->last_ns = now_ns;
    live->shown = true;
    fflush(out);
}

void figures_live_clear(struct figures_live *live, FILE *out)
{
    for (int i = 0; live->shown && i < WANEM_DIRECTIONS; i++) {
        fputs(i > 0 ? "\033[A\033[K" : "\r\033[K", out);
    }
    live->shown = false;
}

static void report_histogram(const struct delays *delays, FILE *out)
{
    size_t first = 0, end = DELAYS_BUCKETS;
    uint64_t sums[BARS] = {0}, most = 1;
    while (first < end && delays->packets[first] == 0) {
        first++;
    }
    while (end > first && delays->packets[end - 1] == 0) {
        end--;
    }
    if (first == end) {
        return;
    }
    size_t width = (end - first + BARS - 1) / BARS;
    for (size_t i = first; i < end; i++) {
        uint64_t *sum = &sums[(i - first) / width];
        *sum += delays->packets[i];
        most = *sum > most ? *sum : most;
    }
    for (size_t i = 0; first + i * width < end; i++) {
        char bar[BAR_LEN + 1];
        size_t len = (size_t)(sums[i] * BAR_LEN / most);
        memset(bar, '#', len);
        bar[len] = '\0';
        fprintf(out, "    %12.3f ms  %12llu  %s\n", (double)delays_from_us(first + i * width) / 1e3,
                (unsigned long long)sums[i], bar);
    }
}

static void report_direction(const struct pump_figures *figures, FILE *out)
{
    const struct path_counters *counters = &figures->counters;
#define REPORT_COUNTER(name, text)                                                                           \
    if (counters->name.packets > 0) {                                                                        \
        fprintf(out, "  %-10s %12llu packets %15llu bytes  (%s)\n", #name,                                   \
                (unsigned long long)counters->name.packets, (unsigned long long)counters->name.bytes, text); \
    }
    PATH_COUNTERS(REPORT_COUNTER)
#undef REPORT_COUNTER
    fprintf(out, "  %-10s %12llu packets %15llu bytes  (still in the queue or on their way)\n", "inside",
            (unsigned long long)figures->inside.packets, (unsigned long long)figures->inside.bytes);
    fprintf(out, "  the queue held up to %llu bytes", (unsigned long long)counters->queue_max_bytes);
    if (counters->out.packets > 0) {
        fprintf(out, "; delays given, and how late beyond what was due:\n");
        fprintf(out, "    median %.3f ms (%.3f late), 99 %% within %.3f ms (%.3f late)\n",
                (double)delays_share_us(&counters->given, 0.5) / 1e3,
                (double)delays_share_us(&counters->late, 0.5) / 1e3,
                (double)delays_share_us(&counters->given, 0.99) / 1e3,
                (double)delays_share_us(&counters->late, 0.99) / 1e3);
        report_histogram(&counters->given, out);
    } else {
        fputc('\n', out);
    }
}

void figures_report(const struct emulator *emulator, FILE *out)
{
    fprintf(out, "profile %s, seed %llu, %.1f s\n", emulator->profile, (unsigned long long)emulator->seed,
            (double)(emulator_now_ns() - emulator->started_ns) / 1e9);
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        fprintf(out, "%s\n", direction_name((enum wanem_direction)i));
        report_direction(read_pump(emulator, i), out);
    }
}
