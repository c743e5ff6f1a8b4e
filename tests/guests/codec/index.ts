import { Result, serve } from "../sdk/lattice";
import { Reader, Writer } from "../sdk/msgpack";

function handle(_operation: string, payload: Uint8Array): Result {
  const reader = new Reader(payload);
  const answer = new Writer();

  reader.readArray();
  answer.writeArray(5);
  answer.writeInteger(reader.readInteger());
  answer.writeBoolean(reader.readBoolean());
  answer.writeText(reader.readText());
  answer.writeBinary(reader.readBinary());
  reader.skip();
  let pairs = reader.readMap();
  answer.writeMap(pairs);
  for (; pairs > 0; pairs--) {
    answer.writeText(reader.readText()).writeNil();
    reader.skip();
  }
  return reader.isDone ? Result.ok(answer.bytes) : reader.failure;
}

export function __guest_call(operationSize: i32, payloadSize: i32): bool {
  return serve(operationSize, payloadSize, handle);
}
