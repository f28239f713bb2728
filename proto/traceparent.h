/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_TRACEPARENT_H
#define USHER_PROTO_TRACEPARENT_H

/* What W3C Trace Context calls a traceparent: version-traceid-parentid-flags, as
 * 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01. Usher carries it and makes none. Any
 * thread; never block. */

#include <stdbool.h>

#include "proto/bytes.h"

enum { TRACEPARENT_BYTES = 55, TRACE_ID_BYTES = 32, TRACEPARENT_PACKED_BYTES = 26 };

/* Whether it is one: of that length, in lower case hexadecimal, of any version but ff, neither id
 * all zeros. */
bool traceparent_valid(struct bytes text);

/* Of it the id of the trace alone. */
bool trace_id_valid(struct bytes text);

/* Of a valid one; empty for an empty text. */
struct bytes traceparent_id(struct bytes traceparent);

/* Of a valid one its digits by two, as it lies on disk; and back. False: such digits are none, and
 * the text is not valid. */
void traceparent_pack(struct bytes valid, uint8_t packed[TRACEPARENT_PACKED_BYTES]);
bool traceparent_unpack(const uint8_t packed[TRACEPARENT_PACKED_BYTES],
                        uint8_t text[TRACEPARENT_BYTES]);

#endif
