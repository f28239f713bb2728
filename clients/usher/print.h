/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_PRINT_H
#define USHER_USHER_PRINT_H

/* Events, as lines for a person or as JSON for a script. Blocks as long as the stream does. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "usher.h"

/* How events are shown. */
struct printer {
    FILE *stream;
    bool json;
    bool escape; /* control bytes, because a terminal may obey them */
};

/* One line for the event: text for a person, or one JSON object. */
void print_event(const struct printer *printer, const struct usher_event *event);

/* Text from elsewhere, escaped if the printer escapes. */
void print_text(const struct printer *printer, const void *data, size_t size);

#endif
