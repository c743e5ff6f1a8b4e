// What wit/ says, in TypeScript.

declare module "wasmcloud:messaging/types@0.2.0" {
  export interface BrokerMessage {
    subject: string;
    body: Uint8Array;
    replyTo: string | null;
  }
}

declare module "wasmcloud:messaging/consumer@0.2.0" {
  import type { BrokerMessage } from "wasmcloud:messaging/types@0.2.0";

  export function request(subject: string, body: Uint8Array, timeoutMs: number): BrokerMessage;
  export function publish(message: BrokerMessage): void;
}
