/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "proto/link_frame.h"

/* Whatever a backend sends ends within the arena, and what is accepted can be packed again and
 * reads the same. The same bytes are tried as an answer too. */

enum { ARENA_BYTES = 64 * 1024 };

typedef ProtobufCMessage *reader(struct arena *arena, struct bytes frame);

static ProtobufCMessage *request_read(struct arena *arena, struct bytes frame)
{
    return (ProtobufCMessage *)link_request_read(arena, frame);
}

static ProtobufCMessage *answer_read(struct arena *arena, struct bytes frame)
{
    return (ProtobufCMessage *)link_answer_read(arena, frame);
}

/* Gives the packed form, or a size of 0 when the frame is refused. */
static struct bytes round_trip(reader *read, struct bytes frame)
{
    struct arena arena;
    FUZZ_CHECK(arena_init(&arena, ARENA_BYTES) == 0);
    struct bytes packed = {0};
    ProtobufCMessage *message = read(&arena, frame);
    if (message != NULL) {
        packed.size = protobuf_c_message_get_packed_size(message);
        uint8_t *data = malloc(packed.size + 1);
        FUZZ_CHECK(data != NULL);
        FUZZ_CHECK(protobuf_c_message_pack(message, data) == packed.size);
        packed.data = data;
    }
    arena_fini(&arena);
    return packed;
}

static void check(reader *read, struct bytes frame)
{
    struct bytes once = round_trip(read, frame);
    struct bytes twice = round_trip(read, once);
    FUZZ_CHECK(bytes_equal(once, twice));
    free((void *)once.data);
    free((void *)twice.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of just that size: a read beyond the end is seen. */
    uint8_t *copy = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    check(request_read, (struct bytes){copy, size});
    check(answer_read, (struct bytes){copy, size});
    free(copy);
    return 0;
}
