/* The OPTIONS part of hawser.ini(5), in roff. test/tree/manual.sh puts it into the page and compares. */
#include <stdio.h>
#include <string.h>

#include "hawser/config_table.h"

/* Text as roff takes it literally: no escapes, no request at the start of a line, '-' as a plain minus. */
static void put_text(FILE *to, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", to);
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", to);
        else if (*text == '-')
            fputs("\\-", to);
        else
            fputc(*text, to);
    }
}

/* "error|warn" as "error, warn". */
static void put_choices(FILE *to, const char *choices)
{
    for (const char *c = choices; *c != '\0'; c++) {
        if (*c == '|')
            fputs(", ", to);
        else
            fputc(*c, to);
    }
}

static void put_option(FILE *to, const struct config_option *o)
{
    char value[CONFIG_NAME_MAX];
    fputs(".TP\n.B ", to);
    put_text(to, o->key);
    fputs(" = \\fI", to);
    put_text(to, o->syntax);
    fputs("\\fR\n", to);
    put_text(to, o->help);
    if (o->choices != NULL && strchr(o->syntax, '|') == NULL) {
        fputs("\nOne of ", to);
        put_choices(to, o->choices);
        fputc('.', to);
    }
    if (o->max != 0) {
        fputs("\nFrom ", to);
        put_text(to, config_value_format(o, o->min, value));
        fputs(" to ", to);
        put_text(to, config_value_format(o, o->max, value));
        fputc('.', to);
    }
    if (o->flags & CONFIG_REQUIRED)
        fputs("\nRequired.", to);
    if (o->fallback != NULL || o->absent != NULL) {
        fputs("\nDefault: ", to);
        put_text(to, o->fallback != NULL ? o->fallback : o->absent);
        fputc('.', to);
    }
    if (o->flags & CONFIG_RESTART)
        fputs("\nA change needs a restart.", to);
    if (o->unbuilt != NULL) {
        fputs("\nNote: ", to);
        put_text(to, o->unbuilt);
        fputc('.', to);
    }
    fputc('\n', to);
}

void config_print_manual(FILE *to)
{
    for (int section = 0; section < CONFIG_SECTIONS; section++) {
        const struct config_section_row *row = &config_sections[section];
        fprintf(to, ".SS [%s%s]\n", row->word, row->named ? " \\fINAME\\fB" : "");
        put_text(to, row->help);
        fputc('\n', to);
        for (size_t i = 0; i < config_option_count; i++) {
            if ((int)config_options[i].section == section)
                put_option(to, &config_options[i]);
        }
    }
}
