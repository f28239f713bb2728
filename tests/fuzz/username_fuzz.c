/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "proto/username.h"
#include "proto/utf8.h"

/* username_valid against the sentence in its header, spelled out differently; and a name that is
 * accepted is text that every other part may take as it is. */

static bool wanted(struct bytes name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-@:+";
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] == 0 || strchr(allowed, name.data[i]) == NULL)
            return false;
    return name.size >= 1 && name.size <= 64;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes name = {data, size};
    bool valid = username_valid(name);
    FUZZ_CHECK(valid == wanted(name));
    FUZZ_CHECK(!valid || utf8_valid(name));
    return 0;
}
