//! The part of MessagePack that the contracts use.
//!
//! Format: https://github.com/msgpack/msgpack/blob/master/spec.md

const std = @import("std");
const actor = @import("actor.zig");

/// Reads a payload from front to end without copying: text and bytes are views into it.
pub const Reader = struct {
    bytes: []const u8,
    at: usize = 0,

    /// The newer wasmbus SDKs put a byte 0xc1, which no value starts with, before the payload.
    pub fn init(bytes: []const u8) Reader {
        return .{ .bytes = bytes, .at = @intFromBool(bytes.len > 0 and bytes[0] == 0xc1) };
    }

    /// Fails unless everything was read, to the last byte.
    pub fn end(self: Reader) actor.Error!void {
        if (self.at != self.bytes.len) return self.malformed("trailing data", self.at);
    }

    /// How many pairs follow; nil is an empty map.
    pub fn readMap(self: *Reader) actor.Error!usize {
        const start = self.at;
        return switch (try self.readByte()) {
            0x80...0x8f => |tag| self.bounded(tag & 0x0f, 2),
            0xde => self.bounded(try self.readUnsigned(2), 2),
            0xdf => self.bounded(try self.readUnsigned(4), 2),
            0xc0 => 0,
            else => self.malformed("want a map", start),
        };
    }

    /// How many elements follow; nil is an empty array.
    pub fn readArray(self: *Reader) actor.Error!usize {
        const start = self.at;
        return switch (try self.readByte()) {
            0x90...0x9f => |tag| self.bounded(tag & 0x0f, 1),
            0xdc => self.bounded(try self.readUnsigned(2), 1),
            0xdd => self.bounded(try self.readUnsigned(4), 1),
            0xc0 => 0,
            else => self.malformed("want an array", start),
        };
    }

    /// Text in valid UTF-8; nil is empty.
    pub fn readText(self: *Reader) actor.Error![]const u8 {
        const start = self.at;
        const text = switch (try self.readByte()) {
            0xa0...0xbf => |tag| try self.take(tag & 0x1f),
            0xd9...0xdb => |tag| try self.take(try self.readUnsigned(width(tag, 0xd9))),
            0xc0 => "",
            else => return self.malformed("want text", start),
        };
        if (!std.unicode.utf8ValidateSlice(text)) return self.malformed("want UTF-8", start);
        return text;
    }

    /// Binary data, or the bytes of text; nil is empty.
    pub fn readBinary(self: *Reader) actor.Error![]const u8 {
        const start = self.at;
        return switch (try self.readByte()) {
            0xc4...0xc6 => |tag| self.take(try self.readUnsigned(width(tag, 0xc4))),
            0xa0...0xbf => |tag| self.take(tag & 0x1f),
            0xd9...0xdb => |tag| self.take(try self.readUnsigned(width(tag, 0xd9))),
            0xc0 => "",
            else => self.malformed("want binary data", start),
        };
    }

    pub fn readInteger(self: *Reader) actor.Error!i64 {
        const start = self.at;
        return switch (try self.readByte()) {
            0x00...0x7f => |tag| tag,
            0xe0...0xff => |tag| @as(i8, @bitCast(tag)),
            0xcc...0xcf => |tag| std.math.cast(i64, try self.readUnsigned(width(tag, 0xcc))) orelse
                self.malformed("too large an integer", start),
            0xd0 => @as(i8, @truncate(@as(i64, @bitCast(try self.readUnsigned(1))))),
            0xd1 => @as(i16, @truncate(@as(i64, @bitCast(try self.readUnsigned(2))))),
            0xd2 => @as(i32, @truncate(@as(i64, @bitCast(try self.readUnsigned(4))))),
            0xd3 => @bitCast(try self.readUnsigned(8)),
            else => self.malformed("want an integer", start),
        };
    }

    pub fn readBoolean(self: *Reader) actor.Error!bool {
        const start = self.at;
        return switch (try self.readByte()) {
            0xc2 => false,
            0xc3 => true,
            else => self.malformed("want a boolean", start),
        };
    }

    /// Pass over one value and all that is inside it, however deep.
    pub fn skip(self: *Reader) actor.Error!void {
        var pending: u64 = 1;
        while (pending > 0) : (pending -= 1) {
            const start = self.at;
            switch (try self.readByte()) {
                0x00...0x7f, 0xe0...0xff, 0xc0, 0xc2, 0xc3 => {},
                0x80...0x8f => |tag| pending += 2 * @as(u64, try self.bounded(tag & 0x0f, 2)),
                0x90...0x9f => |tag| pending += try self.bounded(tag & 0x0f, 1),
                0xa0...0xbf => |tag| _ = try self.take(tag & 0x1f),
                0xc4...0xc6 => |tag| _ = try self.take(try self.readUnsigned(width(tag, 0xc4))),
                // An extension of any size; its type is one byte more.
                0xc7...0xc9 => |tag| _ = try self.take(try self.readUnsigned(width(tag, 0xc7)) + 1),
                0xca...0xcb => |tag| _ = try self.take(4 * width(tag, 0xca)),
                0xcc...0xcf => |tag| _ = try self.take(width(tag, 0xcc)),
                0xd0...0xd3 => |tag| _ = try self.take(width(tag, 0xd0)),
                0xd4...0xd8 => |tag| _ = try self.take(width(tag, 0xd4) + 1),
                0xd9...0xdb => |tag| _ = try self.take(try self.readUnsigned(width(tag, 0xd9))),
                0xdc...0xdd => |tag| pending += try self.bounded(try self.readUnsigned(2 * width(tag, 0xdc)), 1),
                0xde...0xdf => |tag| pending += 2 * @as(u64, try self.bounded(try self.readUnsigned(2 * width(tag, 0xde)), 2)),
                0xc1 => return self.malformed("want a value", start),
            }
        }
    }

    fn malformed(_: Reader, comptime why: []const u8, at: usize) actor.Error {
        return actor.fail("malformed payload: " ++ why ++ " at byte {d}", .{at});
    }

    fn readByte(self: *Reader) actor.Error!u8 {
        return @intCast(try self.readUnsigned(1));
    }

    /// A number of `size` bytes, most significant first.
    fn readUnsigned(self: *Reader, size: usize) actor.Error!u64 {
        var number: u64 = 0;
        for (try self.take(size)) |byte| number = number << 8 | byte;
        return number;
    }

    /// A count, if the rest of the payload can hold that many: a loop over it is never longer.
    fn bounded(self: Reader, count: u64, values: u64) actor.Error!usize {
        if (count > (self.bytes.len - self.at) / values) return self.malformed("truncated", self.bytes.len);
        return @intCast(count);
    }

    fn take(self: *Reader, size: u64) actor.Error![]const u8 {
        if (size > self.bytes.len - self.at) return self.malformed("truncated", self.bytes.len);
        defer self.at += @intCast(size);
        return self.bytes[self.at..][0..@intCast(size)];
    }
};

/// Appends values, each number and length in its shortest form.
pub const Writer = struct {
    buffer: std.ArrayList(u8) = .empty,

    pub fn written(self: Writer) []const u8 {
        return self.buffer.items;
    }

    /// That many names and values must follow.
    pub fn writeMap(self: *Writer, pairs: usize) actor.Error!void {
        if (pairs < 16) return self.tagged(0x80 | @as(u8, @intCast(pairs)), 0, 0);
        try if (pairs <= 0xffff) self.tagged(0xde, pairs, 2) else self.tagged(0xdf, pairs, 4);
    }

    pub fn writeArray(self: *Writer, elements: usize) actor.Error!void {
        if (elements < 16) return self.tagged(0x90 | @as(u8, @intCast(elements)), 0, 0);
        try if (elements <= 0xffff) self.tagged(0xdc, elements, 2) else self.tagged(0xdd, elements, 4);
    }

    pub fn writeText(self: *Writer, text: []const u8) actor.Error!void {
        try switch (text.len) {
            0...31 => self.tagged(0xa0 | @as(u8, @intCast(text.len)), 0, 0),
            32...0xff => self.tagged(0xd9, text.len, 1),
            0x100...0xffff => self.tagged(0xda, text.len, 2),
            else => self.tagged(0xdb, text.len, 4),
        };
        try self.buffer.appendSlice(actor.allocator, text);
    }

    pub fn writeBinary(self: *Writer, bytes: []const u8) actor.Error!void {
        try switch (bytes.len) {
            0...0xff => self.tagged(0xc4, bytes.len, 1),
            0x100...0xffff => self.tagged(0xc5, bytes.len, 2),
            else => self.tagged(0xc6, bytes.len, 4),
        };
        try self.buffer.appendSlice(actor.allocator, bytes);
    }

    pub fn writeInteger(self: *Writer, number: i64) actor.Error!void {
        const bits: u64 = @bitCast(number);
        try switch (number) {
            -32...0x7f => self.tagged(@truncate(bits), 0, 0),
            -0x80...-33 => self.tagged(0xd0, bits, 1),
            -0x8000...-0x81 => self.tagged(0xd1, bits, 2),
            -0x80000000...-0x8001 => self.tagged(0xd2, bits, 4),
            0x80...0xff => self.tagged(0xcc, bits, 1),
            0x100...0xffff => self.tagged(0xcd, bits, 2),
            0x10000...0xffffffff => self.tagged(0xce, bits, 4),
            else => self.tagged(0xd3, bits, 8),
        };
    }

    pub fn writeBoolean(self: *Writer, value: bool) actor.Error!void {
        try self.tagged(if (value) 0xc3 else 0xc2, 0, 0);
    }

    pub fn writeNil(self: *Writer) actor.Error!void {
        try self.tagged(0xc0, 0, 0);
    }

    fn tagged(self: *Writer, tag: u8, number: u64, size: usize) actor.Error!void {
        try self.buffer.append(actor.allocator, tag);
        var left = size;
        while (left > 0) : (left -= 1) {
            try self.buffer.append(actor.allocator, @truncate(number >> @intCast(8 * (left - 1))));
        }
    }
};

/// 1, 2, 4 or 8: tags of a kind stand in the order of the size of what follows.
fn width(tag: u8, first: u8) usize {
    return @as(usize, 1) << @intCast(tag - first);
}
