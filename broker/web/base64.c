/* SPDX-License-Identifier: Apache-2.0 */
#include "web/base64.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/check.h"

/* libcrypto's, which takes whatever there is in one go. */

char *web_base64(struct bytes bytes)
{
    size_t room = (bytes.size + 2) / 3 * 4 + 1;
    char *text = malloc(room);
    if (text == NULL)
        return NULL;
    int length = EVP_EncodeBlock((uint8_t *)text, bytes.data, (int)bytes.size);
    CHECK((size_t)length + 1 == room);
    return text;
}
