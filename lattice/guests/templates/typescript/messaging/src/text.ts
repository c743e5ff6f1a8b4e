// Text and its bytes in UTF-8: QuickJS has no TextEncoder and no TextDecoder.

export function encode(text: string): Uint8Array {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0));
}

export function decode(bytes: Uint8Array): string {
  return decodeURIComponent(escape(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
}
