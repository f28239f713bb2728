/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "micro.h"
#include "proto/broker_frame.h"

/* Writing a Message of 32 bytes. */

static struct buffer out;
static uint8_t payload[32];

void micro_setup(void)
{
    memset(payload, 'x', sizeof(payload));
}

void micro_loop(void)
{
    struct message_fields fields = {.from = {(const uint8_t *)"bench-17", 8},
                                    .payload = {payload, sizeof(payload)},
                                    .time_ms = 1836620578817};

    for (unsigned i = 0; i < MICRO_ROUNDS; i++) {
        out.size = 0;
        fields.seq = i + 1;
        micro_need(broker_frame_message(&out, &fields) == 0, "broker_frame_message");
        micro_sink += out.size;
    }
}
