/* SPDX-License-Identifier: Apache-2.0 */
#include "base/listeners.h"

#include <string.h>

/* What a listener is called, for all who name one: its row is the only place that says so. */

const struct listener_row listener_rows[LISTENERS] = {
#define LISTENER(name, codec, transport, standard, whom, help) \
    {#name, "listen." #name, whom, CODEC_##codec, TRANSPORT_##transport},
#include "base/listeners.def"
};

enum listener_kind listener_of_option(const char *option)
{
    enum listener_kind kind = 0;
    while (kind < LISTENERS && strcmp(listener_rows[kind].option, option) != 0)
        kind++;
    return kind;
}
