/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/check.h"

#include <string.h>

/* Loss is counted and not inferred from gaps: a gap is a loss, a refusal or a message that is late,
 * and which one is known at the end, when everything has been answered. The last 64 of a lane are
 * remembered, so that one that is late (disordered, but there) is told from one that comes twice
 * (doubled, and no excuse for another that is lost). */

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

enum { REMEMBERED = 64 };

/* A number from the past: marked as a repetition, one that others overtook, or a second one. */
static void check_late(struct check *check, struct lane *lane, uint32_t back, bool again)
{
    uint64_t bit = back <= REMEMBERED ? UINT64_C(1) << (back - 1) : 0;
    if (again) {
        check->repeated++;
    } else if (bit != 0 && (lane->seen & bit) == 0) {
        check->received++;
        check->disordered++;
    } else {
        check->doubled++;
    }
    lane->seen |= bit;
}

void check_receive(struct check *check, struct lane *lane, uint32_t seq, bool again)
{
    uint32_t ahead = seq - lane->next; /* the numbers may wrap */
    if (ahead > UINT32_MAX / 2) {
        check_late(check, lane, lane->next - seq, again);
        return;
    }
    check->received++;
    lane->seen = ahead + 1 < REMEMBERED ? lane->seen << (ahead + 1) | 1 : 1;
    lane->next = seq + 1;
}

void check_merge(struct check *to, const struct check *from)
{
    to->sent += from->sent;
    to->received += from->received;
    to->refused += from->refused;
    to->missed += from->missed;
    to->repeated += from->repeated;
    to->disordered += from->disordered;
    to->doubled += from->doubled;
    to->strange += from->strange;
}

uint64_t check_lost(const struct check *check)
{
    uint64_t accounted = check->received + check->refused + check->missed;
    return check->sent > accounted ? check->sent - accounted : 0;
}

bool check_clean(const struct check *check)
{
    return check_lost(check) == 0 && check->disordered == 0 && check->doubled == 0 &&
           check->strange == 0;
}
