/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_GATE_H
#define USHER_DOOR_GATE_H

/* What happens to a frame before login. Pure: the frame in, a decision out; nobody's actor is
 * touched, and nothing is kept. The front end carries the decision out. */

#include "proto/client_frame.h"

enum gate_verdict {
    GATE_ATTACH, /* a Login whose name may be attached, once its credentials are good */
    GATE_RESUME, /* a Resume to be taken to the user's actor, if it shows the secret */
    GATE_ANSWER, /* answer with code, and go on */
    GATE_CLOSE,  /* answer with code (if there is an id), then Close with reason */
};

struct gate_decision {
    enum gate_verdict verdict;
    uint32_t code;
    uint32_t reason;
    const char *detail;
};

/* Reads the frame into *frame and decides. With `named_by_token` a Login may leave its username
 * empty, because its credentials say it. */
struct gate_decision gate_frame(struct bytes bytes, bool named_by_token,
                                struct client_frame *frame);

#endif
