// {{name}}: answers every message whose sender waits with a greeting.

import { Result, decode, encode, log, serve } from "../sdk/lattice";
import { Message } from "../sdk/messaging";

function answer(message: Message): Result {
  log(message.subject);
  if (message.replyTo.length == 0) return Result.ok(new Uint8Array(0));
  const greeting = "Hello, " + decode(message.body) + "!";
  return new Message(message.replyTo, encode(greeting)).publish();
}

function handle(operation: string, payload: Uint8Array): Result {
  if (operation == "MessageSubscriber.HandleMessage") {
    const message = Message.read(payload);
    return message.failure === null ? answer(message) : message.failure!;
  }
  return Result.unknownOperation(operation);
}

export function __guest_call(operationSize: i32, payloadSize: i32): bool {
  return serve(operationSize, payloadSize, handle);
}
