/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/client_frame_oracle.h"
#include "fuzz/fuzz.h"
#include "proto/varint.h"

/* The reader of client frames against protobuf-c, and the writer too: what is written of a frame
 * that was read is, to protobuf-c, that frame. */

static void write_and_read(struct bytes frame)
{
    struct client_frame ours;
    struct buffer out = {0};
    uint64_t size;
    FUZZ_CHECK(client_frame_read(frame, &ours) == 0);
    FUZZ_CHECK(client_frame_write(&out, &ours, SIZE_MAX) == 0);
    int head = varint_read((struct bytes){out.data, out.size}, &size);
    FUZZ_CHECK(head > 0 && size == out.size - (size_t)head);
    Usher__V1__ClientFrame *theirs = oracle_unpack((struct bytes){out.data + head, (size_t)size});
    FUZZ_CHECK(theirs != NULL && oracle_same(&ours, theirs));
    usher__v1__client_frame__free_unpacked(theirs, NULL);
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum oracle_verdict verdict = oracle_compare((struct bytes){data, size});
    FUZZ_CHECK(verdict != ORACLE_DIFFER);
    if (verdict == ORACLE_BOTH_ACCEPT)
        write_and_read((struct bytes){data, size});
    return 0;
}
