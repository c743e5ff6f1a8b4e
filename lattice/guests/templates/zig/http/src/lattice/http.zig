//! The contract wasmcloud:httpserver, operation HttpServer.HandleRequest.

const std = @import("std");
const actor = @import("actor.zig");
const msgpack = @import("msgpack.zig");

/// A request, without its headers.
pub const Request = struct {
    method: []const u8 = "",
    path: []const u8 = "",
    /// What follows the question mark, as the client sent it.
    query: []const u8 = "",
    body: []const u8 = "",

    pub fn read(payload: []const u8) actor.Error!Request {
        var request: Request = .{};
        var reader: msgpack.Reader = .init(payload);
        var left = try reader.readMap();
        while (left > 0) : (left -= 1) {
            const name = try reader.readText();
            if (std.mem.eql(u8, name, "method")) {
                request.method = try reader.readText();
            } else if (std.mem.eql(u8, name, "path")) {
                request.path = try reader.readText();
            } else if (std.mem.eql(u8, name, "queryString")) {
                request.query = try reader.readText();
            } else if (std.mem.eql(u8, name, "body")) {
                request.body = try reader.readBinary();
            } else {
                try reader.skip();
            }
        }
        try reader.end();
        return request;
    }
};

pub const Header = struct { name: []const u8, value: []const u8 };

pub const plain: Header = .{ .name = "content-type", .value = "text/plain; charset=utf-8" };

pub const Response = struct {
    status: i64 = 200,
    headers: []const Header = &.{},
    body: []const u8 = "",

    pub fn write(self: Response) actor.Error![]const u8 {
        var writer: msgpack.Writer = .{};
        try writer.writeMap(3);
        try writer.writeText("statusCode");
        try writer.writeInteger(self.status);
        try writer.writeText("header");
        try writer.writeMap(self.headers.len);
        for (self.headers) |header| {
            try writer.writeText(header.name);
            try writer.writeArray(1);
            try writer.writeText(header.value);
        }
        try writer.writeText("body");
        try writer.writeBinary(self.body);
        return writer.written();
    }
};
