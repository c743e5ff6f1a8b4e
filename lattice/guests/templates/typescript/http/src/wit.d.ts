// What wit/ says, in TypeScript.

declare module "wasi:http/types@0.2.0" {
  import type { InputStream, OutputStream } from "wasi:io/streams@0.2.0";

  export type Method =
    | { tag: "get" | "head" | "post" | "put" | "delete" | "connect" | "options" | "trace" | "patch" }
    | { tag: "other"; val: string };

  export class Fields implements Disposable {
    static fromList(entries: [string, Uint8Array][]): Fields;
    entries(): [string, Uint8Array][];
    [Symbol.dispose](): void;
  }

  export class IncomingRequest implements Disposable {
    method(): Method;
    pathWithQuery(): string | undefined;
    authority(): string | undefined;
    headers(): Fields;
    consume(): IncomingBody;
    [Symbol.dispose](): void;
  }

  export class IncomingBody implements Disposable {
    stream(): InputStream;
    [Symbol.dispose](): void;
  }

  export class OutgoingResponse implements Disposable {
    constructor(headers: Fields);
    setStatusCode(status: number): void;
    body(): OutgoingBody;
    [Symbol.dispose](): void;
  }

  export class OutgoingBody implements Disposable {
    write(): OutputStream;
    static finish(body: OutgoingBody, trailers: Fields | undefined): void;
    [Symbol.dispose](): void;
  }

  export class ResponseOutparam {
    static set(out: ResponseOutparam, response: { tag: "ok"; val: OutgoingResponse }): void;
  }
}

declare module "wasi:io/streams@0.2.0" {
  export class InputStream implements Disposable {
    blockingRead(size: bigint): Uint8Array;
    [Symbol.dispose](): void;
  }

  export class OutputStream implements Disposable {
    blockingWriteAndFlush(contents: Uint8Array): void;
    [Symbol.dispose](): void;
  }
}
