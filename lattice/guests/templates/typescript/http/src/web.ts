// HTTP for actors: requests and responses as plain values, over wasi:http.

import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.0";
import type { IncomingRequest, Method } from "wasi:http/types@0.2.0";
import type { InputStream } from "wasi:io/streams@0.2.0";

const READ_BYTES = 65536n;

/** What a stream takes at a time, at the most, when it is to wait for room. */
const WRITE_BYTES = 4096;

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Pairs of names and values. */
export type Headers = [string, string][];

/** A request, all of it. */
export class Request {
  constructor(
    readonly method: string,
    /** Without the query. */
    readonly path: string,
    readonly query: string,
    readonly headers: Headers,
    readonly body: Uint8Array,
  ) {}

  get text(): string {
    return decoder.decode(this.body);
  }
}

export class Response {
  constructor(
    readonly body: Uint8Array = new Uint8Array(),
    readonly status: number = 200,
    readonly headers: Headers = [],
  ) {}

  static text(text: string, status = 200): Response {
    return new Response(encoder.encode(text), status, [
      ["content-type", "text/plain; charset=utf-8"],
    ]);
  }
}

type Answer = (request: Request) => Response | Promise<Response>;

/** The interface that is exported. */
export function serve(answer: Answer) {
  return {
    async handle(incoming: IncomingRequest, out: ResponseOutparam): Promise<void> {
      send(await answer(received(incoming)), out);
    },
  };
}

function received(incoming: IncomingRequest): Request {
  const [path, ...query] = (incoming.pathWithQuery() ?? "/").split("?");
  const headers = incoming.headers().entries();
  return new Request(
    nameOf(incoming.method()),
    path,
    query.join("?"),
    headers.map(([name, value]) => [name, decoder.decode(value)]),
    readAll(incoming.consume().stream()),
  );
}

function nameOf(method: Method): string {
  return method.tag === "other" ? method.val : method.tag.toUpperCase();
}

function readAll(stream: InputStream): Uint8Array {
  const chunks: Uint8Array[] = [];
  try {
    for (;;) chunks.push(stream.blockingRead(READ_BYTES));
  } catch (error) {
    if ((error as { payload?: { tag: string } }).payload?.tag !== "closed") throw error;
  } finally {
    stream[Symbol.dispose]();
  }
  const body = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0));
  let size = 0;
  for (const chunk of chunks) {
    body.set(chunk, size);
    size += chunk.length;
  }
  return body;
}

function send(response: Response, out: ResponseOutparam): void {
  const fields = response.headers.map(([name, value]): [string, Uint8Array] => [
    name,
    encoder.encode(value),
  ]);
  const outgoing = new OutgoingResponse(Fields.fromList(fields));
  outgoing.setStatusCode(response.status);
  const body = outgoing.body();
  ResponseOutparam.set(out, { tag: "ok", val: outgoing });
  const stream = body.write();
  for (let start = 0; start < response.body.length; start += WRITE_BYTES) {
    stream.blockingWriteAndFlush(response.body.subarray(start, start + WRITE_BYTES));
  }
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}
