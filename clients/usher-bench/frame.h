/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_FRAME_H
#define USHER_USHER_BENCH_FRAME_H

/* The frame that a load generator sends by the million, without packing. All other frames are
 * libusher/outgoing.h's; what comes is libusher/frame.h's. Any thread; never blocks. */

#include "libusher/frame.h"

/* Appends a delimited Send; id 0 asks for no answer. Gives where the payload of `payload_bytes` is
 * to be written, valid until `out` changes, or NULL without memory. */
uint8_t *bench_frame_send(struct buffer *out, uint64_t id, struct bytes to, size_t payload_bytes);

#endif
