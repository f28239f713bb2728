/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/link_submit.h"

#include <errno.h>

#include "proto/field.h"

/* Numbers are those of backend.proto. The lane is 0: who writes by this has one. */

enum { REQUEST_SUBMIT = 3, SUBMIT_COMMANDS = 4 };

size_t link_submit_command_size(size_t command_bytes)
{
    return 1 + varint_size(command_bytes) + command_bytes;
}

int link_submit_begin(struct buffer *out, uint64_t link, uint64_t seq, size_t commands_bytes)
{
    const struct field fields[] = {{.value = link}, {0}, {.value = seq}};
    unsigned count = sizeof(fields) / sizeof(fields[0]);
    size_t submit_bytes = fields_size(fields, count) + commands_bytes;
    uint8_t *start = buffer_reserve(out, 1 + varint_size(submit_bytes) + submit_bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = tag_put(start, REQUEST_SUBMIT, WIRE_RUN);
    at += varint_write(at, submit_bytes);
    at = fields_put(at, fields, count);
    out->size += (size_t)(at - start);
    return 0;
}

void link_submit_command(struct buffer *out, struct bytes command)
{
    uint8_t *at = tag_put(out->data + out->size, SUBMIT_COMMANDS, WIRE_RUN);
    at += varint_write(at, command.size);
    if (command.size > 0)
        memcpy(at, command.data, command.size);
    out->size = (size_t)(at - out->data) + command.size;
}
