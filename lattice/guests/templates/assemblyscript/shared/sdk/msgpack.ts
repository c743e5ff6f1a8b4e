// The part of MessagePack that the contracts use.
// Format: https://github.com/msgpack/msgpack/blob/master/spec.md

import { Result, decode, encode } from "./lattice";

/**
 * Reads a payload from front to end. Its first error sticks: from then on every read returns a zero
 * or nothing. Read all fields, and look at `isDone` once.
 */
export class Reader {
  private at: i32 = 0;
  private error: string = "";
  private errorAt: i32 = 0;

  constructor(private readonly bytes: Uint8Array) {
    // Newer wasmbus SDKs put this byte, which no value starts with, before the payload.
    if (bytes.length > 0 && bytes[0] == 0xc1) this.at = 1;
  }

  /** Whether everything was read, to the last byte, and was as expected. */
  get isDone(): bool {
    if (this.at != this.bytes.length) this.fail("trailing data", this.at);
    return this.error.length == 0;
  }

  /** The answer to a payload that could not be read. */
  get failure(): Result {
    const where = " at byte " + this.errorAt.toString();
    return Result.error("malformed payload: " + this.error + where);
  }

  /** How many pairs follow; nil is an empty map. */
  readMap(): i32 {
    const start = this.at;
    const tag = this.readByte();
    if (tag >= 0x80 && tag <= 0x8f) return this.bounded(tag & 0x0f, 2);
    if (tag == 0xde) return this.bounded(this.readUnsigned(2), 2);
    if (tag == 0xdf) return this.bounded(this.readUnsigned(4), 2);
    if (tag != 0xc0) this.fail("want a map", start);
    return 0;
  }

  /** How many elements follow; nil is an empty array. */
  readArray(): i32 {
    const start = this.at;
    const tag = this.readByte();
    if (tag >= 0x90 && tag <= 0x9f) return this.bounded(tag & 0x0f, 1);
    if (tag == 0xdc) return this.bounded(this.readUnsigned(2), 1);
    if (tag == 0xdd) return this.bounded(this.readUnsigned(4), 1);
    if (tag != 0xc0) this.fail("want an array", start);
    return 0;
  }

  /** Nil is empty. */
  readText(): string {
    const start = this.at;
    const tag = this.readByte();
    if (tag >= 0xa0 && tag <= 0xbf) return decode(this.take(tag & 0x1f));
    if (tag >= 0xd9 && tag <= 0xdb) return decode(this.take(this.readUnsigned(1 << (tag - 0xd9))));
    if (tag != 0xc0) this.fail("want text", start);
    return "";
  }

  /** Binary data, or the bytes of text; nil is empty. */
  readBinary(): Uint8Array {
    const start = this.at;
    const tag = this.readByte();
    if (tag >= 0xc4 && tag <= 0xc6) return this.take(this.readUnsigned(1 << (tag - 0xc4)));
    if (tag >= 0xa0 && tag <= 0xdb) {
      this.at = start;
      return encode(this.readText());
    }
    if (tag != 0xc0) this.fail("want binary data", start);
    return new Uint8Array(0);
  }

  readInteger(): i64 {
    const start = this.at;
    const tag = this.readByte();
    if (tag <= 0x7f || tag >= 0xe0) return <i64>(<i8>tag);
    if (tag >= 0xcc && tag <= 0xcf) return this.readUnsigned(1 << (tag - 0xcc));
    if (tag == 0xd0) return <i64>(<i8>this.readUnsigned(1));
    if (tag == 0xd1) return <i64>(<i16>this.readUnsigned(2));
    if (tag == 0xd2) return <i64>(<i32>this.readUnsigned(4));
    if (tag == 0xd3) return this.readUnsigned(8);
    this.fail("want an integer", start);
    return 0;
  }

  readBoolean(): bool {
    const start = this.at;
    const tag = this.readByte();
    if (tag != 0xc2 && tag != 0xc3) this.fail("want a boolean", start);
    return tag == 0xc3;
  }

  /** Pass over one value and all that is inside it, however deep. */
  skip(): void {
    for (let pending: i64 = 1; pending > 0 && this.error.length == 0; pending--) {
      const start = this.at;
      const tag = this.readByte();
      if (tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3) continue;
      if (tag <= 0x8f) pending += 2 * this.bounded(tag & 0x0f, 2);
      else if (tag <= 0x9f) pending += this.bounded(tag & 0x0f, 1);
      else if (tag <= 0xbf) this.take(tag & 0x1f);
      else if (tag >= 0xc4 && tag <= 0xc6) this.take(this.readUnsigned(1 << (tag - 0xc4)));
      else if (tag >= 0xc7 && tag <= 0xc9) this.take(this.readUnsigned(1 << (tag - 0xc7)) + 1);
      else if (tag == 0xca || tag == 0xcb) this.take(4 << (tag - 0xca));
      else if (tag >= 0xcc && tag <= 0xcf) this.take(1 << (tag - 0xcc));
      else if (tag >= 0xd0 && tag <= 0xd3) this.take(1 << (tag - 0xd0));
      else if (tag >= 0xd4 && tag <= 0xd8) this.take((1 << (tag - 0xd4)) + 1);
      else if (tag >= 0xd9 && tag <= 0xdb) this.take(this.readUnsigned(1 << (tag - 0xd9)));
      else if (tag >= 0xdc && tag <= 0xdd) pending += this.bounded(this.readUnsigned(2 << (tag - 0xdc)), 1);
      else if (tag >= 0xde) pending += 2 * this.bounded(this.readUnsigned(2 << (tag - 0xde)), 2);
      else this.fail("want a value", start);
    }
  }

  private fail(error: string, at: i32): void {
    if (this.error.length == 0) {
      this.error = error;
      this.errorAt = at;
    }
    this.at = this.bytes.length;
  }

  private readByte(): i32 {
    return <i32>this.readUnsigned(1);
  }

  private readUnsigned(width: i32): i64 {
    let number: i64 = 0;
    if (this.bytes.length - this.at < width) {
      this.fail("truncated", this.bytes.length);
      return 0;
    }
    for (let i = 0; i < width; i++) number = (number << 8) | <i64>this.bytes[this.at++];
    return number;
  }

  /** A count, if the rest of the payload can hold that many: a loop over it is never longer. */
  private bounded(count: i64, values: i64): i32 {
    if (count * values > <i64>(this.bytes.length - this.at)) {
      this.fail("truncated", this.bytes.length);
      return 0;
    }
    return <i32>count;
  }

  private take(size: i64): Uint8Array {
    if (size < 0 || size > <i64>(this.bytes.length - this.at)) {
      this.fail("truncated", this.bytes.length);
      return new Uint8Array(0);
    }
    this.at += <i32>size;
    return this.bytes.slice(this.at - <i32>size, this.at);
  }
}

/** Appends values, each number and length in its shortest form. */
export class Writer {
  private room: Uint8Array = new Uint8Array(128);
  private size: i32 = 0;

  get bytes(): Uint8Array {
    return this.room.slice(0, this.size);
  }

  /** That many names and values must follow. */
  writeMap(pairs: i32): Writer {
    if (pairs < 16) return this.tagged(0x80 | pairs, 0, 0);
    return pairs <= 0xffff ? this.tagged(0xde, pairs, 2) : this.tagged(0xdf, pairs, 4);
  }

  writeArray(elements: i32): Writer {
    if (elements < 16) return this.tagged(0x90 | elements, 0, 0);
    return elements <= 0xffff ? this.tagged(0xdc, elements, 2) : this.tagged(0xdd, elements, 4);
  }

  writeText(text: string): Writer {
    const bytes = encode(text);
    if (bytes.length < 32) this.tagged(0xa0 | bytes.length, 0, 0);
    else if (bytes.length <= 0xff) this.tagged(0xd9, bytes.length, 1);
    else if (bytes.length <= 0xffff) this.tagged(0xda, bytes.length, 2);
    else this.tagged(0xdb, bytes.length, 4);
    return this.append(bytes);
  }

  writeBinary(bytes: Uint8Array): Writer {
    if (bytes.length <= 0xff) this.tagged(0xc4, bytes.length, 1);
    else if (bytes.length <= 0xffff) this.tagged(0xc5, bytes.length, 2);
    else this.tagged(0xc6, bytes.length, 4);
    return this.append(bytes);
  }

  writeInteger(number: i64): Writer {
    if (number >= -32 && number <= 0x7f) return this.tagged(<i32>(number & 0xff), 0, 0);
    if (number < 0) {
      if (number >= i8.MIN_VALUE) return this.tagged(0xd0, number, 1);
      if (number >= i16.MIN_VALUE) return this.tagged(0xd1, number, 2);
      return number >= i32.MIN_VALUE ? this.tagged(0xd2, number, 4) : this.tagged(0xd3, number, 8);
    }
    if (number <= 0xff) return this.tagged(0xcc, number, 1);
    if (number <= 0xffff) return this.tagged(0xcd, number, 2);
    return number <= 0xffffffff ? this.tagged(0xce, number, 4) : this.tagged(0xcf, number, 8);
  }

  writeBoolean(value: bool): Writer {
    return this.tagged(value ? 0xc3 : 0xc2, 0, 0);
  }

  writeNil(): Writer {
    return this.tagged(0xc0, 0, 0);
  }

  private tagged(tag: i32, number: i64, width: i32): Writer {
    this.reserve(width + 1);
    this.room[this.size++] = <u8>tag;
    for (let i = width - 1; i >= 0; i--) this.room[this.size++] = <u8>(number >> (8 * i));
    return this;
  }

  private append(bytes: Uint8Array): Writer {
    this.reserve(bytes.length);
    this.room.set(bytes, this.size);
    this.size += bytes.length;
    return this;
  }

  private reserve(more: i32): void {
    if (this.size + more <= this.room.length) return;
    const room = new Uint8Array(max(this.size + more, 2 * this.room.length));
    room.set(this.room.subarray(0, this.size));
    this.room = room;
  }
}
