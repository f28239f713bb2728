/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_LINK_SUBMIT_H
#define USHER_PROTO_LINK_SUBMIT_H

/* Writes a LinkRequest with a Submit (backend.proto) around commands that are encoded already, so
 * that each is packed once, where it is made. Any thread that owns the buffer; never block. */

#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

/* What a command of that many bytes takes in a Submit. */
size_t link_submit_command_size(size_t command_bytes);

/* Appends all that stands before the commands, which together take commands_bytes, and makes room
 * for them: 0, or -ENOMEM with `out` as it was. */
int link_submit_begin(struct buffer *out, uint64_t link, uint64_t seq, size_t commands_bytes);

/* Appends one, for which room was made. */
void link_submit_command(struct buffer *out, struct bytes command);

#endif
