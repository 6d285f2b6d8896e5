#include "hawser/err.h"

#include <string.h>

const char *err_text(int err)
{
    static _Thread_local char text[128];
    switch (-err) {
#define ERR_CASE(name, words)                                                                                \
    case name:                                                                                               \
        return words;
        ERR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        return strerror_r(-err, text, sizeof(text));
    }
}
