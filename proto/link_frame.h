/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_LINK_FRAME_H
#define USHER_PROTO_LINK_FRAME_H

/* What comes over the backend link (backend.proto), unpacked. */

#include "backend.pb-c.h"
#include "proto/arena.h"
#include "proto/bytes.h"

/* Unpacks one nng message into the arena, where the result lives until arena_reset; `frame` is
 * borrowed for the call only. NULL when it is not valid: broken protobuf, a text that utf8_valid
 * refuses, a known field of the wrong wire type, a group, or more than the arena holds. A frame of
 * size 0 is valid and has no body. The arena is not reset first. One thread at a time for an
 * arena; never block. */
Usher__V1__LinkRequest *link_request_read(struct arena *arena, struct bytes frame);
Usher__V1__LinkAnswer *link_answer_read(struct arena *arena, struct bytes frame);

#endif
