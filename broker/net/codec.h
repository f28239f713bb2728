/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_CODEC_H
#define USHER_NET_CODEC_H

/* Private to net/: where bytes become frames, and how those are told something who are not let in:
 * one table of functions for each row of CODEC (base/listeners.def). Pure, but for memory. What
 * goes up is whole frames as client.proto has them, each with its length, whatever the codec is. */

#include "base/listeners.h"
#include "client.pb-c.h"
#include "proto/bytes.h"

struct codec {
    /* The length of the whole frames at the front, at most `frames` of them. 0; -EMSGSIZE when the
     * one behind them is larger than `max`; -EPROTO when it cannot be one. */
    int (*whole)(struct bytes input, size_t max, size_t frames, size_t *size);

    /* The size of the frame whose beginning that is, all its bytes on the wire; 0: not known yet,
     * or it cannot be one. */
    size_t (*arriving)(struct bytes input);

    /* The last words for somebody who has said nothing yet. 0 or -ENOMEM. */
    int (*close)(struct buffer *out, Usher__V1__Close__Reason reason, const char *detail,
                 uint32_t retry_after_ms);

    size_t overhead_bytes; /* on the wire, at most, beside those of a frame */
};

#define CODEC(name) extern const struct codec codec_##name;
#include "base/listeners.def"

extern const struct codec *const codecs[CODECS];

/* Of a frame on the wire, at most, whatever the codec is. */
size_t codec_overhead_bytes(void);

#endif
