/* SPDX-License-Identifier: Apache-2.0 */
#include "door/gate.h"

#include <string.h>

#include "actors/messages.h"
#include "client.pb-c.h"
#include "proto/username.h"

/* The shape of what comes before login. Whether a Login's credentials are good is not judged here
 * but in identity/, on another thread, because it costs more than an I/O thread may spend on
 * strangers (admission.c).
 *
 * A Resume's secret is compared by a keyed hash of it that the user's actor shows to everybody
 * (actor.proof), so that strangers are refused without disturbing, or waiting for, an actor. Equal
 * hashes take no time that tells where they differ. */

static struct gate_decision close_with(uint32_t code, uint32_t reason, const char *detail)
{
    return (struct gate_decision){GATE_CLOSE, code, reason, detail};
}

static struct gate_decision name_decision(struct bytes name, enum gate_verdict verdict)
{
    if (username_valid(name))
        return (struct gate_decision){.verdict = verdict};
    return close_with(USHER__V1__ERROR__CODE__INVALID_NAME, USHER__V1__CLOSE__REASON__AUTH_FAILED,
                      "not a name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +");
}

struct gate_decision gate_frame(struct bytes bytes, bool named_by_token, struct client_frame *frame)
{
    if (client_frame_read(bytes, frame) != 0) {
        frame->id = 0;
        return close_with(USHER__V1__ERROR__CODE__PROTOCOL,
                          USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                          "a frame that is not a valid ClientFrame");
    }
    switch (frame->body) {
    case CLIENT_LOGIN:
        if (named_by_token && frame->login.username.size == 0)
            return (struct gate_decision){.verdict = GATE_ATTACH};
        return name_decision(frame->login.username, GATE_ATTACH);
    case CLIENT_RESUME:
        return name_decision(frame->resume.username, GATE_RESUME);
    case CLIENT_NONE:
        return (struct gate_decision){.verdict = GATE_ANSWER,
                                      .code = USHER__V1__ERROR__CODE__PROTOCOL,
                                      .detail = "a frame without a body that this version knows"};
    default:
        return close_with(USHER__V1__ERROR__CODE__PROTOCOL,
                          USHER__V1__CLOSE__REASON__PROTOCOL_ERROR, "log in first");
    }
}
