// The peer of an actor behind HTTP: a Worker that makes a fresh instance of the same module for each
// request, and answers with what the guest echoes.
import module from "./echo.wasm";

const encoder = new TextEncoder();
const OPERATION = encoder.encode("Echo.Say");
const IMPORTS = WebAssembly.Module.imports(module);

function call(payload) {
  let instance;
  let response;
  const memory = (at, size) => new Uint8Array(instance.exports.memory.buffer, at, size);
  const wapc = {
    __guest_request(operation, at) {
      memory(operation, OPERATION.length).set(OPERATION);
      memory(at, payload.length).set(payload);
    },
    __guest_response(at, size) {
      response = memory(at, size).slice();
    },
  };
  const imports = {};
  for (const { module: from, name } of IMPORTS) {
    (imports[from] ??= {})[name] = wapc[name] ?? (() => 0);
  }
  instance = new WebAssembly.Instance(module, imports);
  instance.exports.__guest_call(OPERATION.length, payload.length);
  return response;
}

export default {
  fetch(request) {
    const line = encoder.encode(`${request.method} ${new URL(request.url).pathname}\n`);
    return new Response(call(line), { headers: { "content-type": "text/plain; charset=utf-8" } });
  },
};
