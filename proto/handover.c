/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/handover.h"

#include <errno.h>

#include "proto/varint.h"

int handover_append(struct buffer *out, const Usher__V1__HandoverRecord *record)
{
    size_t size = usher__v1__handover_record__get_packed_size(record);
    uint8_t *to = buffer_reserve(out, VARINT_BYTES_MAX + size);
    if (to == NULL)
        return -ENOMEM;
    size_t head = varint_write(to, size);
    out->size += head + usher__v1__handover_record__pack(record, to + head);
    return 0;
}
