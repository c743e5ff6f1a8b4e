//! {{name}}: the interface example:greeter/greeter, whose one function greets.
//!
//! An operation is `interface.function`; its arguments are a MessagePack array, its result is one
//! MessagePack value. So a component that imports the interface can call this module, and be
//! replaced by it.

const std = @import("std");
const actor = @import("lattice/actor.zig");
const msgpack = @import("lattice/msgpack.zig");

/// greet: func(name: string) -> string
fn greet(payload: []const u8) actor.Error![]const u8 {
    var reader: msgpack.Reader = .init(payload);
    if (try reader.readArray() != 1) return actor.fail("greeter.greet takes one argument: a name", .{});
    const name = try reader.readText();
    try reader.end();

    var writer: msgpack.Writer = .{};
    try writer.writeText(try std.fmt.allocPrint(actor.allocator, "Hello, {s}!", .{name}));
    return writer.written();
}

fn handle(operation: []const u8, payload: []const u8) actor.Error![]const u8 {
    if (std.mem.eql(u8, operation, "greeter.greet")) return greet(payload);
    return actor.unknownOperation(operation);
}

export fn __guest_call(operation_size: usize, payload_size: usize) bool {
    return actor.serve(operation_size, payload_size, handle);
}
