// SPDX-License-Identifier: Apache-2.0
// Text to UTF-8 and back. Own code, because some engines have no TextEncoder or a TextDecoder that
// fails, and names are so short that a call into the browser costs more than the loop.

/** What is no character, half of a surrogate pair, becomes U+FFFD: the broker ends a connection over
 * text that is not UTF-8. */
export function utf8(text: string): Uint8Array {
    const out = new Uint8Array(text.length * 3);
    let size = 0;
    for (let i = 0; i < text.length; i++) {
        let code = text.codePointAt(i)!;
        if (code > 0xffff) {
            i++;
        } else if ((code & 0xf800) === 0xd800) {
            code = 0xfffd;
        }
        if (code < 0x80) {
            out[size++] = code;
            continue;
        }
        let more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        out[size++] = (code >> (6 * more)) | (0xff00 >> (more + 1));
        while (more--) {
            out[size++] = ((code >> (6 * more)) & 0x3f) | 0x80;
        }
    }
    return out.subarray(0, size);
}

/** Never fails: what is not UTF-8 becomes some other text. */
function ownText(bytes: Uint8Array): string {
    let text = "";
    for (let i = 0; i < bytes.length;) {
        let code = bytes[i++]!;
        if (code >= 0x80) {
            let more = code < 0xe0 ? 1 : code < 0xf0 ? 2 : 3;
            code &= 0x3f >> more;
            while (more--) {
                code = (code << 6) | (bytes[i++]! & 0x3f);
            }
        }
        text += String.fromCodePoint(code > 0x10ffff ? 0xfffd : code);
    }
    return text;
}

const enum Text {
    /** From so many bytes on the browser's decoder is faster than the loop. */
    LONG_BYTES = 64,
}
const native =
    typeof TextDecoder === "undefined" ? null : new TextDecoder("utf-8", { ignoreBOM: true });

export function textOf(bytes: Uint8Array): string {
    return native && bytes.length > Text.LONG_BYTES ? native.decode(bytes) : ownText(bytes);
}
