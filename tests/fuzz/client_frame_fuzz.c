/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/client_frame_oracle.h"
#include "fuzz/fuzz.h"

/* The reader of client frames against protobuf-c. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FUZZ_CHECK(oracle_compare((struct bytes){data, size}) != ORACLE_DIFFER);
    return 0;
}
