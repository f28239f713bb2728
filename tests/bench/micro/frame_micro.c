/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "micro.h"
#include "proto/frame.h"

/* Cutting one frame of 40 bytes out of a run of sixteen. */

enum { FRAMES = 16, FRAME_BYTES = 40 };

static uint8_t input[FRAMES * (FRAME_BYTES + 1)];

void micro_setup(void)
{
    memset(input, 'x', sizeof(input));
    for (unsigned i = 0; i < FRAMES; i++)
        input[i * (FRAME_BYTES + 1)] = FRAME_BYTES;
}

void micro_loop(void)
{
    for (unsigned i = 0; i < MICRO_ROUNDS / FRAMES; i++) {
        struct bytes left = {input, sizeof(input)};
        struct bytes frame;
        size_t used;

        while (frame_next(left, 65536, &frame, &used) == 1) {
            left.data += used;
            left.size -= used;
            micro_sink += frame.size;
        }
    }
}
