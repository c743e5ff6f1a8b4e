// HTTP for actors: requests and responses as plain values, over wasi:http.

import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.0";

const READ_BYTES = 65536n;

/** What a stream takes at a time, at the most, when it is to wait for room. */
const WRITE_BYTES = 4096;

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** A request, all of it; headers are pairs of names and values. */
export class Request {
  constructor(method, path, query, headers, body) {
    this.method = method;
    this.path = path;
    this.query = query;
    this.headers = headers;
    this.body = body;
  }

  get text() {
    return decoder.decode(this.body);
  }
}

export class Response {
  constructor(body = new Uint8Array(), { status = 200, headers = [] } = {}) {
    this.body = body;
    this.status = status;
    this.headers = headers;
  }

  static text(text, status = 200) {
    const headers = [["content-type", "text/plain; charset=utf-8"]];
    return new Response(encoder.encode(text), { status, headers });
  }
}

/** The interface that is exported; `answer` makes a response of a request, or a promise of one. */
export function serve(answer) {
  return {
    async handle(incoming, out) {
      send(await answer(received(incoming)), out);
    },
  };
}

function received(incoming) {
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

function nameOf(method) {
  return method.tag === "other" ? method.val : method.tag.toUpperCase();
}

function readAll(stream) {
  const chunks = [];
  try {
    for (;;) chunks.push(stream.blockingRead(READ_BYTES));
  } catch (error) {
    if (error.payload?.tag !== "closed") throw error;
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

function send(response, out) {
  const fields = response.headers.map(([name, value]) => [name, encoder.encode(value)]);
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
