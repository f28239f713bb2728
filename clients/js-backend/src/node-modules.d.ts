// SPDX-License-Identifier: Apache-2.0
// What this library uses of Node: so little that its whole types are not worth a package.
interface NodeSocket {
    setNoDelay(on: boolean): void;
    setKeepAlive(on: boolean, delayMs: number): void;
    on(event: string, listener: (argument: never) => void): void;
    write(bytes: Uint8Array): boolean;
    destroy(): void;
}

declare module "node:net" {
    export function connect(
        options: { path: string } | { host: string; port: number; autoSelectFamily: boolean },
    ): NodeSocket;
}

declare module "node:os" {
    export function hostname(): string;
}

declare module "node:fs" {
    export function existsSync(path: string): boolean;
}

declare module "node:crypto" {
    export function randomBytes(size: number): Uint8Array;
}

declare const process: { pid: number; env: Record<string, string | undefined> };
declare function setImmediate(run: () => void): unknown;
