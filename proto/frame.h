/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_FRAME_H
#define USHER_PROTO_FRAME_H

#include <stddef.h>

#include "proto/bytes.h"

/* The longest length in front of a frame. */
enum { FRAME_PREFIX_BYTES_MAX = 5 };

/* Looks for one delimited frame (a varint length and that many bytes) at the start of input.
 *
 *   1          *frame is the frame, borrowed from input and perhaps of size 0; *used says how many
 *              bytes of input it took, length included
 *   0          more bytes are needed
 *   -EPROTO    the length has more than FRAME_PREFIX_BYTES_MAX bytes
 *   -EMSGSIZE  the frame is longer than frame_bytes_max; said as soon as the length is complete
 *
 * *frame and *used are set only with 1. The same bytes give the same frames however they are cut
 * into inputs. Any thread; never blocks. */
int frame_next(struct bytes input, size_t frame_bytes_max, struct bytes *frame, size_t *used);

#endif
