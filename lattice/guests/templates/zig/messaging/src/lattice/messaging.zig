//! The contract wasmcloud:messaging, operations MessageSubscriber.HandleMessage and
//! Messaging.Publish.

const std = @import("std");
const actor = @import("actor.zig");
const msgpack = @import("msgpack.zig");

pub const Message = struct {
    subject: []const u8 = "",
    /// The subject that the sender waits for an answer on; empty when nobody waits.
    reply_to: []const u8 = "",
    body: []const u8 = "",

    pub fn read(payload: []const u8) actor.Error!Message {
        var message: Message = .{};
        var reader: msgpack.Reader = .init(payload);
        var left = try reader.readMap();
        while (left > 0) : (left -= 1) {
            const name = try reader.readText();
            if (std.mem.eql(u8, name, "subject")) {
                message.subject = try reader.readText();
            } else if (std.mem.eql(u8, name, "replyTo")) {
                message.reply_to = try reader.readText();
            } else if (std.mem.eql(u8, name, "body")) {
                message.body = try reader.readBinary();
            } else {
                try reader.skip();
            }
        }
        try reader.end();
        return message;
    }

    /// Publish it along the default link for wasmcloud:messaging.
    pub fn publish(self: Message) actor.Error!void {
        var writer: msgpack.Writer = .{};
        try writer.writeMap(3);
        try writer.writeText("subject");
        try writer.writeText(self.subject);
        try writer.writeText("replyTo");
        try if (self.reply_to.len > 0) writer.writeText(self.reply_to) else writer.writeNil();
        try writer.writeText("body");
        try writer.writeBinary(self.body);
        _ = try actor.call("default", "wasmcloud:messaging", "Messaging.Publish", writer.written());
    }
};
