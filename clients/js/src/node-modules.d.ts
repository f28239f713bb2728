// SPDX-License-Identifier: Apache-2.0
// What node.ts uses of Node: so little that its whole types are not worth a package.
interface NodeSocket {
    setNoDelay(on: boolean): void;
    on(event: string, listener: (argument: never) => void): void;
    write(bytes: Uint8Array): boolean;
    destroy(): void;
    destroySoon(): void;
    readonly writableLength: number;
}

declare module "node:net" {
    export function connect(options: { host: string; port: number }): NodeSocket;
}

declare module "node:tls" {
    export function connect(options: { host: string; port: number }): NodeSocket;
}
