// {{name}}: the interface example:greeter/greeter, whose one function greets.
//
// An operation is `interface.function`; its arguments are a MessagePack array, its result is one
// MessagePack value. So a component that imports the interface can call this module, and be
// replaced by it.

import { Result, serve } from "../sdk/lattice";
import { Reader, Writer } from "../sdk/msgpack";

/** greet: func(name: string) -> string */
function greet(payload: Uint8Array): Result {
  const reader = new Reader(payload);
  if (reader.readArray() != 1) return Result.error("greeter.greet takes one argument: a name");
  const name = reader.readText();
  if (!reader.isDone) return reader.failure;
  return Result.ok(new Writer().writeText("Hello, " + name + "!").bytes);
}

function handle(operation: string, payload: Uint8Array): Result {
  if (operation == "greeter.greet") return greet(payload);
  return Result.unknownOperation(operation);
}

export function __guest_call(operationSize: i32, payloadSize: i32): bool {
  return serve(operationSize, payloadSize, handle);
}
