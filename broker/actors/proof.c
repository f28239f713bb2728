/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/proof.h"

#include <string.h>

#include "actors/messages.h"
#include "base/hash.h"

uint64_t proof_of_resume(const uint64_t key[2], uint64_t epoch, struct bytes secret)
{
    struct {
        uint64_t epoch;
        uint8_t secret[SECRET_BYTES];
    } shown = {.epoch = epoch};
    bool whole = secret.size == SECRET_BYTES;
    if (whole)
        memcpy(shown.secret, secret.data, SECRET_BYTES);
    uint64_t proof = hash_keyed(key, &shown, sizeof(shown));
    return whole ? proof | (proof == 0) : 0;
}
