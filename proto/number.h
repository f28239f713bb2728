/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_NUMBER_H
#define USHER_PROTO_NUMBER_H

/* Every number that the broker tells a peer is below 2^53, so that a language whose numbers are
 * doubles can hold it (docs/protocol.md, 1.12). What a peer gave itself comes back as it was. Who
 * makes numbers goes by these; most of them could not come near. */

#include <stdint.h>

#define NUMBER_TOLD_MAX ((UINT64_C(1) << 53) - 1)

/* From where a number may go on by one at a time for as long as anything lives. */
#define NUMBER_START_MAX (UINT64_C(1) << 52)

#endif
