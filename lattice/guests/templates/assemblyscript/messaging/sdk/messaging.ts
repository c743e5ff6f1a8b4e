// The contract wasmcloud:messaging, operations MessageSubscriber.HandleMessage and
// Messaging.Publish.

import { Result, call } from "./lattice";
import { Reader, Writer } from "./msgpack";

export class Message {
  /** The answer to a payload that is no message. */
  failure: Result | null = null;

  constructor(
    public subject: string,
    public body: Uint8Array,
    /** The subject that the sender waits for an answer on; empty when nobody waits. */
    public replyTo: string = "",
  ) {}

  static read(payload: Uint8Array): Message {
    const message = new Message("", new Uint8Array(0));
    const reader = new Reader(payload);
    for (let left = reader.readMap(); left > 0; left--) {
      const name = reader.readText();
      if (name == "subject") message.subject = reader.readText();
      else if (name == "replyTo") message.replyTo = reader.readText();
      else if (name == "body") message.body = reader.readBinary();
      else reader.skip();
    }
    if (!reader.isDone) message.failure = reader.failure;
    return message;
  }

  /** Publish it along the default link for wasmcloud:messaging. */
  publish(): Result {
    const writer = new Writer().writeMap(3);
    writer.writeText("subject").writeText(this.subject);
    writer.writeText("replyTo");
    if (this.replyTo.length > 0) writer.writeText(this.replyTo);
    else writer.writeNil();
    writer.writeText("body").writeBinary(this.body);
    return call("wasmcloud:messaging", "Messaging.Publish", writer.bytes);
  }
}
