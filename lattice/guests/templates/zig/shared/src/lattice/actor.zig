//! What an actor in Zig needs: it answers operations, sends messages, and writes log lines.
//!
//! Underneath is the waPC protocol: a guest exports `__guest_call` and imports these functions.

const std = @import("std");

extern "wapc" fn __guest_request(operation: [*]u8, payload: [*]u8) void;
extern "wapc" fn __guest_response(response: [*]const u8, size: usize) void;
extern "wapc" fn __guest_error(text: [*]const u8, size: usize) void;
extern "wapc" fn __host_call(
    link: [*]const u8,
    link_size: usize,
    contract: [*]const u8,
    contract_size: usize,
    operation: [*]const u8,
    operation_size: usize,
    payload: [*]const u8,
    payload_size: usize,
) bool;
extern "wapc" fn __host_response_len() usize;
extern "wapc" fn __host_response(response: [*]u8) void;
extern "wapc" fn __host_error_len() usize;
extern "wapc" fn __host_error(text: [*]u8) void;
extern "wapc" fn __console_log(line: [*]const u8, size: usize) void;

pub const Error = error{ Failed, OutOfMemory };

/// Answers one operation; what it returns need not outlive the call, for which `allocator` lasts.
pub const Handler = fn (operation: []const u8, payload: []const u8) Error![]const u8;

var arena = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var failure: []const u8 = "";

/// Memory until the end of the call; nothing need be freed.
pub const allocator = arena.allocator();

/// Answer with an error: `return actor.fail("…", .{})`. The caller sees the text as an
/// `actor_error`. Write it for a person.
pub fn fail(comptime format: []const u8, values: anytype) Error {
    failure = std.fmt.allocPrint(allocator, format, values) catch return error.OutOfMemory;
    return error.Failed;
}

pub fn unknownOperation(operation: []const u8) Error {
    return fail("unknown operation: {s}", .{operation});
}

/// Send a message along the link `link` for `contract` and wait for the answer.
///
/// When it fails, the text of `error.Failed` starts with a code of the lattice, such as `no_link: `;
/// return the error to pass it on.
pub fn call(link: []const u8, contract: []const u8, operation: []const u8, payload: []const u8) Error![]const u8 {
    if (__host_call(link.ptr, link.len, contract.ptr, contract.len, operation.ptr, operation.len, payload.ptr, payload.len)) {
        const response = try allocate(__host_response_len());
        __host_response(response.ptr);
        return response;
    }
    const text = try allocate(__host_error_len());
    __host_error(text.ptr);
    failure = text;
    return error.Failed;
}

/// Write one line to the host's log; long lines and too many of them are cut there.
pub fn log(line: []const u8) void {
    __console_log(line.ptr, line.len);
}

/// The body of `__guest_call`.
pub fn serve(operation_size: usize, payload_size: usize, comptime handle: Handler) bool {
    _ = arena.reset(.retain_capacity);
    const response = answer(operation_size, payload_size, handle) catch |err| {
        const text = if (err == error.OutOfMemory) "out of memory" else failure;
        __guest_error(text.ptr, text.len);
        return false;
    };
    __guest_response(response.ptr, response.len);
    return true;
}

fn answer(operation_size: usize, payload_size: usize, comptime handle: Handler) Error![]const u8 {
    const operation = try allocate(operation_size);
    const payload = try allocate(payload_size);
    __guest_request(operation.ptr, payload.ptr);
    return handle(operation, payload);
}

/// Zig has an empty slice begin at the end of all addresses, where the host sees no memory.
fn allocate(size: usize) Error![]u8 {
    return (try allocator.alloc(u8, @max(size, 1)))[0..size];
}
