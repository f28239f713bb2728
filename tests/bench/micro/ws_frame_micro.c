/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "micro.h"
#include "net/ws_frame.h"

/* Reading one message with a frame of 40 bytes, of a run of sixteen; beside `frame`, which is what
 * the same bytes cost on TCP. Both are paid: what a message holds is cut into frames behind it. */

enum { MESSAGES = 16, FRAME_BYTES = 40, MESSAGE_BYTES = 6 + 1 + FRAME_BYTES };

static uint8_t wire[MESSAGES * MESSAGE_BYTES];

void micro_setup(void)
{
    static const uint8_t header[] = {0x82, 0x80 | (1 + FRAME_BYTES), 0x37, 0xfa, 0x21, 0x3d};
    for (unsigned i = 0; i < MESSAGES; i++) {
        uint8_t *at = wire + i * MESSAGE_BYTES;
        memset(at, 'x', MESSAGE_BYTES);
        memcpy(at, header, sizeof(header));
        at[sizeof(header)] = FRAME_BYTES ^ header[2];
    }
}

void micro_loop(void)
{
    static uint8_t data[sizeof(wire)];
    const struct ws_limits limits = {65541, 64};
    for (unsigned i = 0; i < MICRO_ROUNDS / MESSAGES; i++) {
        struct ws_reader reader = {0};
        struct ws_control control;
        memcpy(data, wire, sizeof(data)); /* some 50 instructions for each message */
        struct ws_input input = {data, sizeof(data), 0, 0};
        micro_need(ws_read(&reader, &limits, &input, &control) == 0, "a message was refused");
        micro_sink += input.payload;
    }
}
