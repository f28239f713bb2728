/* SPDX-License-Identifier: Apache-2.0 */

/* Loss is counted and not inferred from gaps: a gap is a loss or a refusal, and which one is known
 * at the end, when everything has been answered. So a message that is lost shows as `lost`, two
 * that change places show as one `disordered`, and one that comes twice shows as `disordered` as
 * well and cannot hide a loss, since it is not counted as received. */

#include "clients/bench_check.h"

#include <string.h>

void stamp_pattern(uint8_t *payload, size_t size)
{
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)('a' + i % 26);
}

void stamp_write(uint8_t *payload, const struct stamp *stamp)
{
    memcpy(payload, &stamp->due_ns, 8);
    memcpy(payload + 8, &stamp->sender, 4);
    memcpy(payload + 12, &stamp->seq, 4);
}

bool stamp_read(struct bytes payload, struct bytes pattern, struct stamp *stamp)
{
    if (payload.size != pattern.size || payload.size < STAMP_BYTES)
        return false;
    memcpy(&stamp->due_ns, payload.data, 8);
    memcpy(&stamp->sender, payload.data + 8, 4);
    memcpy(&stamp->seq, payload.data + 12, 4);
    return memcmp(payload.data + STAMP_BYTES, pattern.data + STAMP_BYTES,
                  payload.size - STAMP_BYTES) == 0;
}

void check_receive(struct check *check, struct lane *lane, uint32_t seq, bool again)
{
    /* Serial arithmetic: the numbers may wrap. */
    if ((int32_t)(seq - lane->next) >= 0) {
        check->received++;
        lane->next = seq + 1;
    } else if (again) {
        check->repeated++;
    } else {
        check->disordered++;
    }
}

void check_merge(struct check *to, const struct check *from)
{
    to->sent += from->sent;
    to->received += from->received;
    to->refused += from->refused;
    to->repeated += from->repeated;
    to->disordered += from->disordered;
    to->strange += from->strange;
}

uint64_t check_lost(const struct check *check)
{
    uint64_t accounted = check->received + check->refused;
    return check->sent > accounted ? check->sent - accounted : 0;
}

bool check_clean(const struct check *check)
{
    return check_lost(check) == 0 && check->disordered == 0 && check->strange == 0;
}
