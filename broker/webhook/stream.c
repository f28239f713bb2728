/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/stream.h"

#include "base/check.h"

/* One rule carries it: the cursor moves when a receiver has answered, and never for another reason.
 * A request whose answer is lost is sent again, so each event is sent at least once; it has its
 * seq, so who keeps the highest seq that he has takes it once. In between nothing is left out: what
 * follows a request begins right behind the cursor.
 *
 * A receiver may say in its answer which seq it has ({"seq":N}). It is believed, since it alone
 * knows:
 *
 *   before the first one sent    it has lost something: the cursor goes back there
 *   the one before the first     it has taken nothing: the same again, later
 *   one of those sent            that far it has come; the rest is sent next
 *   beyond them, but given       it has heard an answerless request of a larger batch
 *   not given by this stream     it heard another one: RESET
 *
 * Whatever does not move the cursor forward costs a wait, so that a receiver that always says the
 * same seq is not asked in a loop.
 *
 * What is not kept any more cannot be sent, and is not left out silently: a RESET takes its place,
 * which says which events are missing. */

enum { RETRY_AFTER_MS_MAX = 3600 * 1000 };

void hook_stream_begin(struct hook_stream *stream, bool known, uint64_t cursor)
{
    *stream = (struct hook_stream){.cursor = known ? cursor : 0,
                                   .reset = known ? HOOK_RESET_NONE : HOOK_RESET_FIRST};
}

void hook_stream_begin_boot(struct hook_stream *stream)
{
    *stream = (struct hook_stream){.reset = HOOK_RESET_BOOT};
}

/* In which state of the stream it would skip something if it just went on. */
static enum hook_reset reset_of(const struct hook_stream *stream, const struct hook_kept *kept)
{
    if (stream->reset != HOOK_RESET_NONE)
        return stream->reset;
    if (stream->cursor > kept->last)
        return HOOK_RESET_AHEAD;
    return stream->cursor + 1 < kept->first ? HOOK_RESET_TRIMMED : HOOK_RESET_NONE;
}

/* From which seq on a receiver that begins anew hears of everything. */
static struct hook_post make_reset(const struct hook_stream *stream, const struct hook_kept *kept,
                                   enum hook_reset reset)
{
    bool trimmed = reset == HOOK_RESET_TRIMMED;
    uint64_t newest = reset == HOOK_RESET_BOOT ? 0 : kept->last;
    return (struct hook_post){.kind = HOOK_RESET,
                              .first = trimmed ? stream->cursor + 1 : 1,
                              .last = trimmed ? kept->first - 1 : 0,
                              .reset = reset,
                              .seq = trimmed ? kept->first - 1 : newest};
}

struct hook_post hook_stream_next(struct hook_stream *stream, const struct hook_kept *kept,
                                  uint32_t batch)
{
    CHECK(kept->first <= kept->last + 1 && batch > 0);
    enum hook_reset reset = reset_of(stream, kept);
    if (reset != HOOK_RESET_NONE)
        return make_reset(stream, kept, reset);
    if (stream->cursor == kept->last)
        return (struct hook_post){.kind = HOOK_NOTHING};
    if (stream->batch != 0 && stream->batch < batch)
        batch = stream->batch;
    uint64_t left = kept->last - stream->cursor;
    uint64_t last = stream->cursor + (left < batch ? left : batch);
    return (struct hook_post){
        .kind = HOOK_EVENTS, .first = stream->cursor + 1, .last = last, .seq = last};
}

/* Half of the wait is chance: receivers of many nodes come back at different moments. */
static uint64_t wait_ms(const struct hook_stream *stream, const struct hook_pace *pace,
                        uint32_t random)
{
    uint64_t wait = pace->min_ms;
    for (unsigned i = 1; i < stream->attempts && wait < pace->max_ms; i++)
        wait *= 2;
    if (wait > pace->max_ms)
        wait = pace->max_ms;
    return wait / 2 + random % (wait / 2 + 1);
}

void hook_stream_failed(struct hook_stream *stream, uint64_t retry_after_ms,
                        const struct hook_pace *pace, uint32_t random, uint64_t now_ms)
{
    stream->attempts++;
    uint64_t wait = wait_ms(stream, pace, random);
    if (retry_after_ms > RETRY_AFTER_MS_MAX)
        retry_after_ms = RETRY_AFTER_MS_MAX;
    stream->due_ms = now_ms + (wait > retry_after_ms ? wait : retry_after_ms);
}

static enum hook_result take(struct hook_stream *stream, uint64_t seq)
{
    CHECK(seq > stream->cursor || stream->reset != HOOK_RESET_NONE);
    stream->cursor = seq;
    stream->reset = HOOK_RESET_NONE;
    stream->attempts = 0;
    stream->due_ms = 0;
    return HOOK_TAKEN;
}

/* Fewer when they are too many; more again, step by step, when they are not. */
static void fit_batch(struct hook_stream *stream, const struct hook_post *post, bool too_large)
{
    uint64_t count = post->last - post->first + 1;
    if (too_large)
        stream->batch = count > 1 ? (uint32_t)(count / 2) : 1;
    else if (stream->batch != 0)
        stream->batch = stream->batch < UINT16_MAX ? stream->batch * 2 : 0;
}

/* What a good answer to events means. */
static enum hook_result judge(struct hook_stream *stream, const struct hook_post *post,
                              const struct hook_answer *answer, uint64_t stream_last)
{
    if (!answer->has_seq)
        return take(stream, post->last);
    if (answer->seq > stream_last) {
        stream->reset = HOOK_RESET_AHEAD;
        return HOOK_AHEAD;
    }
    if (answer->seq >= post->first)
        return take(stream, answer->seq);
    if (answer->seq + 1 == post->first)
        return HOOK_FAILED;
    stream->cursor = answer->seq;
    return HOOK_REWOUND;
}

/* A receiver that says nothing, or the seq of the RESET, has begun anew. Another one: of what was
 * trimmed it may have more than we knew, when an answer was lost; and if we do not know how far it
 * was, it may. */
static enum hook_result judge_reset(struct hook_stream *stream, const struct hook_post *post,
                                    const struct hook_answer *answer, uint64_t stream_last)
{
    uint64_t seq = answer->has_seq ? answer->seq : post->seq;
    bool knows_better =
        (post->reset == HOOK_RESET_TRIMMED && seq > post->seq) || post->reset == HOOK_RESET_FIRST;
    if (seq > stream_last && post->reset == HOOK_RESET_FIRST) {
        stream->reset = HOOK_RESET_AHEAD;
        return HOOK_AHEAD;
    }
    if (seq != post->seq && !(knows_better && seq <= stream_last))
        return HOOK_FAILED;
    stream->reset = post->reset;
    return take(stream, seq);
}

enum hook_result hook_stream_answered(struct hook_stream *stream, const struct hook_post *post,
                                      const struct hook_answer *answer, uint64_t stream_last,
                                      const struct hook_pace *pace, uint32_t random,
                                      uint64_t now_ms)
{
    enum hook_result result = HOOK_FAILED;
    CHECK(post->kind != HOOK_NOTHING);
    if (post->kind == HOOK_EVENTS && (answer->good || answer->too_large))
        fit_batch(stream, post, answer->too_large);
    if (answer->good)
        result = post->kind == HOOK_RESET ? judge_reset(stream, post, answer, stream_last)
                                          : judge(stream, post, answer, stream_last);
    if (result != HOOK_TAKEN)
        hook_stream_failed(stream, answer->retry_after_ms, pace, random, now_ms);
    return result;
}

void hook_stream_hurry(struct hook_stream *stream)
{
    stream->attempts = 0;
    stream->due_ms = 0;
}

const char *hook_reset_name(enum hook_reset reset)
{
    static const char *const names[] = {"", "first", "trimmed", "ahead", "boot"};
    CHECK(reset < sizeof(names) / sizeof(names[0]));
    return names[reset];
}
