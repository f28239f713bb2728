/* SPDX-License-Identifier: Apache-2.0 */
#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The heap may be what is broken, and stdio is the program's: the line is put together on the stack
 * and goes out with one write. */

noreturn void promise_broken(const char *file, int line, const char *condition, const char *what)
{
    char text[512];
    int size = snprintf(text, sizeof(text), "usher: %s:%d: %s: %s\n", file, line, what, condition);
    if (size > 0) {
        size_t length = (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1;
        text[length - 1] = '\n';
        if (write(STDERR_FILENO, text, length) < 0)
            abort(); /* nowhere to say it; the signal says enough */
    }
    abort();
}
