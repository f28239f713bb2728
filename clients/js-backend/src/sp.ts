// SPDX-License-Identifier: Apache-2.0
// The framing of nng on a stream (docs/protocol.md 2.6): eight bytes each way, then messages, each
// with its size and the id of its request before it.
//
// What comes from the peer is judged here before anything is kept: a size beyond the limit ends the
// connection, so a peer can never make us hold more than one message.

/** Of a message, its id not counted; a node sends at most half of it. */
export const BODY_BYTES_MAX = 64 * 1024;
export const HEADER = Uint8Array.from([0, 0x53, 0x50, 0, 0, 0x30, 0, 0]);
const PEER = [0, 0x53, 0x50, 0, 0, 0x31, 0, 0];
const ID_BYTES = 4;

/** A request as it goes out. */
export function message(ipc: boolean, id: number, body: Uint8Array): Uint8Array {
    const before = ipc ? 1 : 0;
    const out = new Uint8Array(before + 8 + ID_BYTES + body.length);
    const view = new DataView(out.buffer);
    if (ipc) {
        out[0] = 1;
    }
    view.setUint32(before + 4, ID_BYTES + body.length);
    view.setUint32(before + 8, id);
    out.set(body, before + 8 + ID_BYTES);
    return out;
}

const enum Part {
    HEADER,
    SIZE,
    MESSAGE,
}

/** What comes from the peer, in pieces of any size. */
export class Reader {
    private part = Part.HEADER;
    private bytes = new Uint8Array(HEADER.length);
    private filled = 0;

    constructor(
        private readonly ipc: boolean,
        private readonly onHeader: () => void,
        private readonly onMessage: (id: number, body: Uint8Array) => string | undefined,
    ) {}

    /** Gives what is wrong with it; then nothing more may be added. */
    add(piece: Uint8Array): string | undefined {
        for (let at = 0; at < piece.length;) {
            const some = piece.subarray(at, at + this.bytes.length - this.filled);
            this.bytes.set(some, this.filled);
            this.filled += some.length;
            at += some.length;
            if (this.filled === this.bytes.length) {
                const fault = this.take(this.bytes);
                if (fault) {
                    return fault;
                }
            }
        }
        return undefined;
    }

    private next(part: Part, size: number): undefined {
        this.part = part;
        this.bytes = new Uint8Array(size);
        this.filled = 0;
        return undefined;
    }

    private take(bytes: Uint8Array): string | undefined {
        const sizeBytes = this.ipc ? 9 : 8;
        if (this.part === Part.HEADER) {
            if (PEER.some((byte, i) => byte !== bytes[i])) {
                return "it does not speak as usherd's link does";
            }
            this.next(Part.SIZE, sizeBytes);
            this.onHeader();
            return undefined;
        }
        const view = new DataView(bytes.buffer);
        if (this.part === Part.MESSAGE) {
            this.next(Part.SIZE, sizeBytes);
            return this.onMessage(view.getUint32(0), bytes.subarray(ID_BYTES));
        }
        const at = this.ipc ? 1 : 0;
        const size = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
        if (this.ipc && bytes[0] !== 1) {
            return "a message does not begin as one";
        }
        if (size < ID_BYTES || size > ID_BYTES + BODY_BYTES_MAX) {
            return `a message of ${size} bytes`;
        }
        return this.next(Part.MESSAGE, size);
    }
}
