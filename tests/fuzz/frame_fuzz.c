/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "proto/frame.h"

/* A stream must give the same frames and the same end however it is cut. The first byte of an
 * input seeds the cuts, the second one sets the limit; the rest is the stream. */

struct outcome {
    uint64_t digest; /* of the sizes and the bytes of all frames, in order */
    size_t frames;
    size_t consumed;
    int end; /* 0 or an error */
};

static void outcome_add(struct outcome *outcome, struct bytes frame)
{
    outcome->digest = (outcome->digest ^ frame.size) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < frame.size; i++)
        outcome->digest = (outcome->digest ^ frame.data[i]) * UINT64_C(0x100000001b3);
    outcome->frames++;
}

/* Reads what it can of the first `arrived` bytes. The input is a copy of just that size. */
static void outcome_advance(struct outcome *outcome, struct bytes stream, size_t arrived,
                            size_t limit)
{
    size_t size = arrived - outcome->consumed;
    uint8_t *copy = malloc(size + 1);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy + 1, stream.data + outcome->consumed, size);
    struct bytes input = {copy + 1, size};
    while (outcome->end == 0) {
        struct bytes frame;
        size_t used;
        int result = frame_next(input, limit, &frame, &used);
        if (result == 0)
            break;
        if (result < 0) {
            outcome->end = result;
            break;
        }
        FUZZ_CHECK(result == 1 && frame.size <= limit && used <= input.size);
        FUZZ_CHECK(used > frame.size && frame.data + frame.size == input.data + used);
        outcome_add(outcome, frame);
        outcome->consumed += used;
        input = (struct bytes){input.data + used, input.size - used};
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint32_t random = data[0] | 1u;
    size_t limit = (size_t)data[1] * data[1];
    struct bytes stream = {data + 2, size - 2};
    struct outcome whole = {0};
    struct outcome cut = {0};
    outcome_advance(&whole, stream, stream.size, limit);
    for (size_t arrived = 0; arrived < stream.size && cut.end == 0;) {
        random = random * 1664525u + 1013904223u;
        size_t step = data[0] == 0 ? 1 : 1 + (random >> 24) % data[0];
        arrived = step < stream.size - arrived ? arrived + step : stream.size;
        outcome_advance(&cut, stream, arrived, limit);
    }
    FUZZ_CHECK(whole.digest == cut.digest && whole.frames == cut.frames);
    FUZZ_CHECK(whole.consumed == cut.consumed && whole.end == cut.end);
    return 0;
}
