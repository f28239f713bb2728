/* SPDX-License-Identifier: Apache-2.0 */
#include "common/options.h"

#include <stdbool.h>
#include <string.h>

static bool holds(const char *names, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += size)
        if ((at == names || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0'))
            return true;
    return false;
}

const char *option_out_of_place(const struct option *options, uint64_t given, const char *always,
                                const char *own)
{
    for (unsigned i = 0; i < 64 && options[i].name != NULL; i++)
        if ((given >> i & 1) != 0 && !holds(always, options[i].name) &&
            !holds(own, options[i].name))
            return options[i].name;
    return NULL;
}
