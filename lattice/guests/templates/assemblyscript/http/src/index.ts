// {{name}}: answers every request with a greeting.
//
// GET / answers "Hello, world!", GET /ada answers "Hello, ada!".

import { Request, Response } from "../sdk/http";
import { Result, serve } from "../sdk/lattice";

function answer(request: Request): Response {
  const name = request.path.length > 1 ? request.path.slice(1) : "world";
  return Response.text(200, "Hello, " + name + "!\n");
}

function handle(operation: string, payload: Uint8Array): Result {
  if (operation == "HttpServer.HandleRequest") {
    const request = Request.read(payload);
    return request.failure === null ? answer(request).result : request.failure!;
  }
  return Result.unknownOperation(operation);
}

export function __guest_call(operationSize: i32, payloadSize: i32): bool {
  return serve(operationSize, payloadSize, handle);
}
