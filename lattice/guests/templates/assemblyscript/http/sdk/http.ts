// The contract wasmcloud:httpserver, operation HttpServer.HandleRequest.

import { Result, encode } from "./lattice";
import { Reader, Writer } from "./msgpack";

/** A request, without its headers. */
export class Request {
  method: string = "";
  path: string = "";
  /** What follows the question mark, as the client sent it. */
  query: string = "";
  body: Uint8Array = new Uint8Array(0);
  /** The answer to a payload that is no request. */
  failure: Result | null = null;

  static read(payload: Uint8Array): Request {
    const request = new Request();
    const reader = new Reader(payload);
    for (let left = reader.readMap(); left > 0; left--) {
      const name = reader.readText();
      if (name == "method") request.method = reader.readText();
      else if (name == "path") request.path = reader.readText();
      else if (name == "queryString") request.query = reader.readText();
      else if (name == "body") request.body = reader.readBinary();
      else reader.skip();
    }
    if (!reader.isDone) request.failure = reader.failure;
    return request;
  }
}

export class Response {
  private names: string[] = [];
  private values: string[] = [];

  constructor(private readonly status: i32, private readonly body: Uint8Array) {}

  static text(status: i32, text: string): Response {
    return new Response(status, encode(text)).header("content-type", "text/plain; charset=utf-8");
  }

  header(name: string, value: string): Response {
    this.names.push(name);
    this.values.push(value);
    return this;
  }

  get result(): Result {
    const writer = new Writer().writeMap(3);
    writer.writeText("statusCode").writeInteger(this.status);
    writer.writeText("header").writeMap(this.names.length);
    for (let i = 0; i < this.names.length; i++) {
      writer.writeText(this.names[i]).writeArray(1).writeText(this.values[i]);
    }
    writer.writeText("body").writeBinary(this.body);
    return Result.ok(writer.bytes);
  }
}
