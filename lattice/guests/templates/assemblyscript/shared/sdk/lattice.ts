// What an actor in AssemblyScript needs: it answers operations, sends messages, and writes log
// lines. Underneath is the waPC protocol: a guest exports __guest_call and imports these functions.

@external("wapc", "__guest_request")
declare function guestRequest(operation: usize, payload: usize): void;
@external("wapc", "__guest_response")
declare function guestResponse(response: usize, size: i32): void;
@external("wapc", "__guest_error")
declare function guestError(text: usize, size: i32): void;
@external("wapc", "__host_call")
declare function hostCall(
  link: usize, linkSize: i32,
  contract: usize, contractSize: i32,
  operation: usize, operationSize: i32,
  payload: usize, payloadSize: i32,
): bool;
@external("wapc", "__host_response_len")
declare function hostResponseSize(): i32;
@external("wapc", "__host_response")
declare function hostResponse(response: usize): void;
@external("wapc", "__host_error_len")
declare function hostErrorSize(): i32;
@external("wapc", "__host_error")
declare function hostError(text: usize): void;
@external("wapc", "__console_log")
declare function consoleLog(line: usize, size: i32): void;

/** The end of a call, in either direction: a response, or the text of an error. */
export class Result {
  private constructor(public readonly isOk: bool, public readonly body: Uint8Array) {}

  static ok(response: Uint8Array): Result {
    return new Result(true, response);
  }

  /** The caller sees the text as an `actor_error`. Write it for a person. */
  static error(text: string): Result {
    return new Result(false, encode(text));
  }

  static failed(text: Uint8Array): Result {
    return new Result(false, text);
  }

  static unknownOperation(operation: string): Result {
    return Result.error("unknown operation: " + operation);
  }
}

/** Answers one operation. */
export type Handler = (operation: string, payload: Uint8Array) => Result;

/** The body of `__guest_call`. */
export function serve(operationSize: i32, payloadSize: i32, handle: Handler): bool {
  const operation = new Uint8Array(operationSize);
  const payload = new Uint8Array(payloadSize);
  guestRequest(operation.dataStart, payload.dataStart);
  const result = handle(decode(operation), payload);
  if (result.isOk) {
    guestResponse(result.body.dataStart, result.body.length);
  } else {
    guestError(result.body.dataStart, result.body.length);
  }
  return result.isOk;
}

/**
 * Send a message along a link and wait for the answer.
 *
 * A failure is a result like any other. Its text starts with a code of the lattice, such as
 * `no_link: `; answer with the result itself to pass it on.
 */
export function call(
  contract: string, operation: string, payload: Uint8Array, link: string = "default",
): Result {
  const linkBytes = encode(link);
  const contractBytes = encode(contract);
  const operationBytes = encode(operation);
  const isOk = hostCall(
    linkBytes.dataStart, linkBytes.length,
    contractBytes.dataStart, contractBytes.length,
    operationBytes.dataStart, operationBytes.length,
    payload.dataStart, payload.length,
  );
  if (isOk) {
    const response = new Uint8Array(hostResponseSize());
    hostResponse(response.dataStart);
    return Result.ok(response);
  }
  const text = new Uint8Array(hostErrorSize());
  hostError(text.dataStart);
  return Result.failed(text);
}

/** Write one line to the host's log; long lines and too many of them are cut there. */
export function log(line: string): void {
  const bytes = encode(line);
  consoleLog(bytes.dataStart, bytes.length);
}

export function encode(text: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(text));
}

export function decode(bytes: Uint8Array): string {
  return String.UTF8.decodeUnsafe(bytes.dataStart, bytes.length);
}

/** What the compiler calls in place of a trap: it says in the log why there is one. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const why = message === null ? "abort" : message;
  const where = file === null ? "" : file;
  log(why + " at " + where + ":" + line.toString() + ":" + column.toString());
  unreachable();
}
