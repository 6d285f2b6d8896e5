/* view.h - answers of hawserd as text for people (floor 8).
 * Aligned columns and human units from a table of columns a verb. Never trusts the answer's shape: what is
 * missing or of another type is shown as '-', unknown fields are ignored, control characters become '?'. One
 * thread. */
#ifndef HAWSERCTL_VIEW_H
#define HAWSERCTL_VIEW_H

#include <jansson.h>
#include <stdio.h>

#include "hawser/control.h"

/* Write the answer to a verb. 0, or -EBADMSG when it is not the object or array that this verb has (nothing
 * is written then). The answer is borrowed and not changed; the library's iterators take no const. */
int view_print(enum control_verb verb, json_t *answer, FILE *to);

#endif
