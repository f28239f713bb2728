/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_CERTIFICATE_H
#define USHER_OPERATE_CERTIFICATE_H

/* How long the TLS certificates are good yet, for the log and whoever asks. */

#include "broker/parts.h"

enum certificate_state {
    CERTIFICATE_NONE = 0, /* no TLS */
    CERTIFICATE_FINE,
    CERTIFICATE_NEAR, /* it should have been renewed by now */
    CERTIFICATE_EXPIRED,
    CERTIFICATE_NOT_YET
};

enum { CERTIFICATE_WATCH_MS = 15 * 60 * 1000 };

/* At now_s, Unix s. Pure. */
enum certificate_state certificate_judge(const struct net_validity *validity, int64_t now_s);

/* Of those in use, now; all 0 without TLS. Any thread. */
enum certificate_state certificate_look(struct broker *broker, struct net_validity *validity);

/* Logs what there is to say: when the state has changed, once a day, or `anew`. Under
 * broker->reload_lock, or before any other thread runs. */
void certificate_tell(struct broker *broker, bool anew);

#endif
