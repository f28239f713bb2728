/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <stdint.h>

/* memcmp ends at the first byte that differs, and whoever may try often enough measures where that
 * was. Here every byte that was shown is compared with some byte of the secret, also when the sizes
 * differ; `differ` is volatile, so that no compiler leaves early on its own account. */

bool secret_equal(const void *secret, size_t secret_size, const void *shown, size_t shown_size)
{
    const uint8_t *wanted = secret;
    const uint8_t *given = shown;
    volatile uint8_t differ = secret_size != shown_size;
    if (secret_size == 0)
        return false;
    for (size_t i = 0; i < shown_size; i++)
        differ |= given[i] ^ wanted[i % secret_size];
    return differ == 0;
}
