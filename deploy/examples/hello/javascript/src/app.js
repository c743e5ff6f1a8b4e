// hello-javascript: answers every request with a greeting.
//
// GET / answers "Hello, world!", GET /ada answers "Hello, ada!".

import { Response, serve } from "./web.js";

export const incomingHandler = serve((request) => {
  const name = request.path.slice(1) || "world";
  return Response.text(`Hello, ${name}!\n`);
});
