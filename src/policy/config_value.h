/* config_value.h - what the readers of values, lists and the file share (floor 2, private to the
 * configuration). config_table.h has the way in for everybody else. One thread. */
#ifndef HAWSER_POLICY_CONFIG_VALUE_H
#define HAWSER_POLICY_CONFIG_VALUE_H

#include "hawser/config_table.h"

/* One value on its way from text to its field. */
struct value {
    const struct config_option *option;
    void *base;       /* the section's struct */
    const char *text; /* the whole value, not empty */
    char *why;        /* CONFIG_ERROR_MAX bytes, filled by value_wrong */
};

void *value_field(const struct value *v);
/* Say what is wrong and what to do; -ERR_CONFIG. */
int value_wrong(const struct value *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int value_wrong_choice(const struct value *v, const char *text);
/* The position of text in "one|two|three", or -1. */
int value_choice_find(const char *choices, const char *text);

/* The list with room for one more than count: it doubles whenever count is a power of two. NULL: out of
 * memory, and the list is as it was. */
void *config_list_grow(void *list, size_t count, size_t item_bytes);
/* All types with CONFIG_LIST. */
int config_list_parse(const struct value *v);

#endif
