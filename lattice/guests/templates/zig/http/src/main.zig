//! {{name}}: answers every request with a greeting.
//!
//! GET / answers "Hello, world!", GET /ada answers "Hello, ada!".

const std = @import("std");
const actor = @import("lattice/actor.zig");
const http = @import("lattice/http.zig");

fn answer(request: http.Request) actor.Error!http.Response {
    const name = if (request.path.len > 1) request.path[1..] else "world";
    return .{
        .headers = &.{http.plain},
        .body = try std.fmt.allocPrint(actor.allocator, "Hello, {s}!\n", .{name}),
    };
}

fn handle(operation: []const u8, payload: []const u8) actor.Error![]const u8 {
    if (std.mem.eql(u8, operation, "HttpServer.HandleRequest")) {
        const response = try answer(try http.Request.read(payload));
        return response.write();
    }
    return actor.unknownOperation(operation);
}

export fn __guest_call(operation_size: usize, payload_size: usize) bool {
    return actor.serve(operation_size, payload_size, handle);
}
