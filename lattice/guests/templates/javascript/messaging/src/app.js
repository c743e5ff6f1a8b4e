// {{name}}: answers every message whose sender waits with a greeting.

import { publish } from "wasmcloud:messaging/consumer@0.2.0";
import { decode, encode } from "./text.js";

export const handler = {
  handleMessage(message) {
    if (!message.replyTo) return;
    const greeting = `Hello, ${decode(message.body)}!`;
    publish({ subject: message.replyTo, body: encode(greeting), replyTo: null });
  },
};
