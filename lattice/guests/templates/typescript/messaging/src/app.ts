// {{name}}: answers every message whose sender waits with a greeting.

import { publish } from "wasmcloud:messaging/consumer@0.2.0";
import type { BrokerMessage } from "wasmcloud:messaging/types@0.2.0";

export const handler = {
  handleMessage(message: BrokerMessage): void {
    if (message.replyTo === undefined) return;
    const greeting = `Hello, ${new TextDecoder().decode(message.body)}!`;
    publish({ subject: message.replyTo, body: new TextEncoder().encode(greeting) });
  },
};
