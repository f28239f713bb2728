/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "micro.h"
#include "proto/client_frame.h"

/* Reading a Send of 32 bytes in place. */

static const uint8_t head[] = {0x22, 0x2c, 0x0a, 0x08, 'b', 'e',  'n',
                               'c',  'h',  '-',  '1',  '7', 0x12, 0x20};
static uint8_t frame[sizeof(head) + 32];

void micro_setup(void)
{
    struct client_frame read;

    memcpy(frame, head, sizeof(head));
    memset(frame + sizeof(head), 'x', 32);
    micro_need(client_frame_read((struct bytes){frame, sizeof(frame)}, &read) == 0 &&
                   read.body == CLIENT_SEND && read.send.payload.size == 32,
               "the frame is wrong");
}

void micro_loop(void)
{
    for (unsigned i = 0; i < MICRO_ROUNDS; i++) {
        struct client_frame read;

        micro_need(client_frame_read((struct bytes){frame, sizeof(frame)}, &read) == 0, "read");
        micro_sink += read.send.to.size;
    }
}
