// SPDX-License-Identifier: Apache-2.0
// Frames out of a stream of bytes, which comes in pieces of any size.

/** The broker's frames end here (`limits.frame_bytes` at its most). */
const FRAME_BYTES_MAX = 16 << 20;
const LENGTH_BYTES_MAX = 5;

/** How long the frame is that begins at `at`, with its length; Infinity: more is needed to tell. */
function frameBytes(bytes: Uint8Array, at: number): number {
    let size = 0;
    for (let i = 0; i < LENGTH_BYTES_MAX && at + i < bytes.length; i++) {
        const byte = bytes[at + i]!;
        size += (byte & 127) * 128 ** i;
        if (byte < 128) {
            return size + i + 1;
        }
    }
    return Infinity;
}

/** Joins what comes in pieces: gives whole frames, as many as there are, and keeps the rest. */
export class Joiner {
    pieces: Uint8Array[] = [];
    size = 0;
    needed = 0;

    constructor(readonly give: (frames: Uint8Array) => void) {}

    /** False: the other side does not speak frames. */
    add(piece: Uint8Array): boolean {
        this.pieces.push(piece);
        this.size += piece.length;
        if (this.size < this.needed) {
            return true; // a large frame is not copied with each of its pieces
        }
        const all = this.pieces.length === 1 ? piece : concat(this.pieces, this.size);
        let end = 0;
        let next = frameBytes(all, 0);
        while (end + next <= all.length) {
            end += next;
            next = frameBytes(all, end);
        }
        const rest = all.subarray(end);
        this.pieces = [rest];
        this.size = rest.length;
        this.needed = next === Infinity ? 0 : next;
        if (end > 0) {
            this.give(all.subarray(0, end));
        }
        return (
            this.needed <= FRAME_BYTES_MAX + LENGTH_BYTES_MAX &&
            (next < Infinity || rest.length < LENGTH_BYTES_MAX)
        );
    }
}

function concat(pieces: Uint8Array[], size: number): Uint8Array {
    const all = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces) {
        all.set(piece, at);
        at += piece.length;
    }
    return all;
}
