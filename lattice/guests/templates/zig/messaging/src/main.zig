//! {{name}}: answers every message whose sender waits with a greeting.

const std = @import("std");
const actor = @import("lattice/actor.zig");
const messaging = @import("lattice/messaging.zig");

fn answer(message: messaging.Message) actor.Error!void {
    actor.log(message.subject);
    if (message.reply_to.len == 0) return;
    const greeting = try std.fmt.allocPrint(actor.allocator, "Hello, {s}!", .{message.body});
    const reply: messaging.Message = .{ .subject = message.reply_to, .body = greeting };
    try reply.publish();
}

fn handle(operation: []const u8, payload: []const u8) actor.Error![]const u8 {
    if (std.mem.eql(u8, operation, "MessageSubscriber.HandleMessage")) {
        try answer(try messaging.Message.read(payload));
        return "";
    }
    return actor.unknownOperation(operation);
}

export fn __guest_call(operation_size: usize, payload_size: usize) bool {
    return actor.serve(operation_size, payload_size, handle);
}
