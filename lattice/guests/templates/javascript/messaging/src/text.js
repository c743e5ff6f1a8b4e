// Text and its bytes in UTF-8: QuickJS has no TextEncoder and no TextDecoder.

export function encode(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0));
}

export function decode(bytes) {
  return decodeURIComponent(escape(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
}
