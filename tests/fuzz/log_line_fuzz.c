/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/log_line.h"
#include "fuzz/fuzz.h"

/* Whatever bytes a field holds, a line is one line of well-formed UTF-8 without control characters
 * and within its limit; in JSON form each string ends where it should, and no key is forged. The
 * first byte of an input chooses the form, the rest is cut at 0xff into the values of fields. */

enum { FIELDS_MAX = 8 };

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* One character of a line: well-formed, no control, nothing that turns the direction. */
static uint32_t take(struct reader *in)
{
    FUZZ_CHECK(in->at < in->end);
    uint32_t code = *in->at++;
    if (code < 0x80) {
        FUZZ_CHECK(code >= 0x20 && code != 0x7f);
        return code;
    }
    FUZZ_CHECK(code >= 0xc2 && code < 0xf5);
    int more = code < 0xe0 ? 1 : code < 0xf0 ? 2 : 3;
    code &= 0x3fu >> more;
    for (int i = 0; i < more; i++) {
        FUZZ_CHECK(in->at < in->end && (*in->at & 0xc0) == 0x80);
        code = code << 6 | (*in->at++ & 0x3fu);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    FUZZ_CHECK(code >= least[more] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff));
    FUZZ_CHECK(code >= 0xa0 && (code < 0x2028 || code > 0x202e));
    FUZZ_CHECK(code < 0x2066 || code > 0x2069);
    return code;
}

static void expect(struct reader *in, const char *text)
{
    FUZZ_CHECK((size_t)(in->end - in->at) >= strlen(text));
    FUZZ_CHECK(memcmp(in->at, text, strlen(text)) == 0);
    in->at += strlen(text);
}

/* Behind the opening quote, up to the closing one. */
static void pass_string(struct reader *in)
{
    for (uint32_t code = take(in); code != '"'; code = take(in)) {
        if (code != '\\')
            continue;
        uint32_t escaped = take(in);
        FUZZ_CHECK(escaped == '"' || escaped == '\\' || escaped == 'u');
        for (int i = 0; escaped == 'u' && i < 4; i++)
            FUZZ_CHECK(strchr("0123456789abcdef", (int)take(in)) != NULL);
    }
}

/* `"key":` and a string, as often as there is one; only our own keys, in their order. */
static void check_json(struct reader in, int fields)
{
    expect(&in, "{\"time\":\"");
    pass_string(&in);
    expect(&in, ",\"level\":\"info\",\"event\":\"test\"");
    int next = 0;
    bool cut = false;
    while (*in.at == ',') {
        expect(&in, ",\"");
        if (*in.at == 'c') {
            expect(&in, "cut\":true");
            cut = true;
            break;
        }
        expect(&in, "f");
        int number = (int)take(&in) - '0';
        FUZZ_CHECK(number >= next && number < fields);
        next = number + 1;
        expect(&in, "\":\"");
        pass_string(&in);
    }
    FUZZ_CHECK(cut || next == fields);
    expect(&in, "}");
    FUZZ_CHECK(in.at == in.end);
}

/* Words and `key=value`, where a value is a plain word or quoted. */
static void check_text(struct reader in, int fields)
{
    int next = 0;
    for (int i = 0; i < 3; i++) { /* time, level with one blank to fill it, event */
        while (in.at < in.end && *in.at != ' ')
            take(&in);
        while (in.at < in.end && *in.at == ' ')
            take(&in);
    }
    bool cut = false;
    while (in.at < in.end && !cut) {
        cut = *in.at == 'c';
        if (cut) {
            expect(&in, "cut=true");
            break;
        }
        expect(&in, "f");
        int number = (int)take(&in) - '0';
        FUZZ_CHECK(number >= next && number < fields);
        next = number + 1;
        expect(&in, "=");
        if (*in.at == '"') {
            take(&in);
            pass_string(&in);
        } else {
            while (in.at < in.end && *in.at != ' ')
                FUZZ_CHECK(strchr("=\"\\", (int)take(&in)) == NULL);
        }
        if (in.at < in.end)
            expect(&in, " ");
    }
    FUZZ_CHECK(cut || next == fields);
    FUZZ_CHECK(in.at == in.end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[FIELDS_MAX] = {"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"};
    if (size == 0)
        return 0;
    bool json = data[0] % 2 != 0;
    struct log_line line;
    log_line_begin(&line, json, 1700000000000, LOG_INFO, "test");
    int fields = 0;
    for (size_t at = 1; at < size && fields < FIELDS_MAX; fields++) {
        const uint8_t *stop = memchr(data + at, 0xff, size - at);
        size_t length = stop != NULL ? (size_t)(stop - data) - at : size - at;
        struct log_field field = LOG_B(keys[fields], data + at, length);
        log_line_field(&line, &field);
        at += length + 1;
    }
    log_line_end(&line);
    FUZZ_CHECK(line.size <= LOG_LINE_BYTES_MAX && line.text[line.size - 1] == '\n');
    const uint8_t *text = (const uint8_t *)line.text;
    struct reader in = {text, text + line.size - 1};
    (json ? check_json : check_text)(in, fields);
    return 0;
}
