/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/certificate.h"

#include <stdio.h>
#include <time.h>

#include "base/check.h"

/* Somebody looks at the end of the TLS certificates, so that it is no surprise.
 *
 * Nothing is refused for it. A certificate that has expired (or a clock that is wrong, at a boot
 * without a network) would otherwise keep usherd from starting, and with it those who come by the
 * plain port, or go by the key and not by the date. But it is told: at the start, at each reload,
 * when its state changes, and each day while it is not fine.
 *
 * Near is two weeks, or the last third of its life where that is shorter: certificates of 90 days
 * are renewed long before, and some live for six days. */

enum { NEAR_S = 14 * 86400, NEAR_PART = 3, AGAIN_S = 86400, DATE_BYTES = 32 };

enum certificate_state certificate_judge(const struct net_validity *validity, int64_t now_s)
{
    int64_t part_s = validity->life_s / NEAR_PART;
    int64_t near_s = part_s < NEAR_S ? part_s : NEAR_S;
    if (now_s >= validity->ends_s)
        return CERTIFICATE_EXPIRED;
    if (now_s < validity->begins_s)
        return CERTIFICATE_NOT_YET;
    return validity->ends_s - now_s <= near_s ? CERTIFICATE_NEAR : CERTIFICATE_FINE;
}

enum certificate_state certificate_look(const struct certificate *certificate,
                                        struct net_validity *validity)
{
    if (net_certificate_validity(certificate->net, validity))
        return certificate_judge(validity, (int64_t)(env_wall_ms(certificate->env) / 1000));
    *validity = (struct net_validity){0};
    return CERTIFICATE_NONE;
}

static const char *date_of(int64_t unix_s, char text[DATE_BYTES])
{
    struct tm parts;
    time_t time = (time_t)unix_s;
    if (gmtime_r(&time, &parts) == NULL || strftime(text, DATE_BYTES, "%FT%TZ", &parts) == 0)
        snprintf(text, DATE_BYTES, "%lld", (long long)unix_s);
    return text;
}

static void tell(const struct certificate *certificate, enum certificate_state state,
                 const struct net_validity *validity, int64_t now_s)
{
    struct log *log = certificate->log;
    char date[DATE_BYTES];
    CHECK(lock_held(&certificate->lock)); /* so that it is told once */
    if (state == CERTIFICATE_NEAR)
        LOG(log, CERTIFICATE_ENDS, LOG_S("not_after", date_of(validity->ends_s, date)),
            LOG_U("hours", (validity->ends_s - now_s) / 3600));
    else if (state == CERTIFICATE_EXPIRED)
        LOG(log, CERTIFICATE_EXPIRED, LOG_S("not_after", date_of(validity->ends_s, date)));
    else if (state == CERTIFICATE_NOT_YET)
        LOG(log, CERTIFICATE_NOT_YET, LOG_S("not_before", date_of(validity->begins_s, date)));
}

void certificate_tell(struct certificate *certificate, bool anew)
{
    struct net_validity validity;
    enum certificate_state state = certificate_look(certificate, &validity);
    int64_t now_s = (int64_t)(env_wall_ms(certificate->env) / 1000);
    lock_take(&certificate->lock);
    bool due = now_s - certificate->told_s >= AGAIN_S || now_s < certificate->told_s;
    bool says = anew || state != certificate->told || due;
    if (says) {
        certificate->told = state;
        certificate->told_s = now_s;
        tell(certificate, state, &validity, now_s);
    }
    lock_give(&certificate->lock);
}

unsigned certificate_watch(struct certificate *certificate)
{
    struct net_validity validity;
    if (!net_certificate_validity(certificate->net, &validity))
        return 0;
    certificate_tell(certificate, false);
    return CERTIFICATE_WATCH_MS;
}
