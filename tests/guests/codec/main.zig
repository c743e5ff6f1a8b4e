const actor = @import("lattice/actor.zig");
const msgpack = @import("lattice/msgpack.zig");

fn handle(_: []const u8, payload: []const u8) actor.Error![]const u8 {
    var reader: msgpack.Reader = .init(payload);
    var answer: msgpack.Writer = .{};

    _ = try reader.readArray();
    try answer.writeArray(5);
    try answer.writeInteger(try reader.readInteger());
    try answer.writeBoolean(try reader.readBoolean());
    try answer.writeText(try reader.readText());
    try answer.writeBinary(try reader.readBinary());
    try reader.skip();
    var pairs = try reader.readMap();
    try answer.writeMap(pairs);
    while (pairs > 0) : (pairs -= 1) {
        try answer.writeText(try reader.readText());
        try answer.writeNil();
        try reader.skip();
    }
    try reader.end();
    return answer.written();
}

export fn __guest_call(operation_size: usize, payload_size: usize) bool {
    return actor.serve(operation_size, payload_size, handle);
}
