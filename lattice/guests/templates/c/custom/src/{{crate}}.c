/*
 * {{name}}: the interface example:greeter/greeter, whose one function greets.
 *
 * An operation is `interface.function`; its arguments are a MessagePack array, its result is one
 * MessagePack value. So a component that imports the interface can call this module, and be
 * replaced by it.
 */
#include "lattice.h"
#include "msgpack.h"

/* greet: func(name: string) -> string */
static lattice_result greet(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    if (msgpack_read_array(&reader) != 1) {
        return lattice_error(LATTICE_TEXT("greeter.greet takes one argument: a name"));
    }
    lattice_bytes name = msgpack_read_text(&reader);
    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }

    lattice_buffer greeting = {0};
    lattice_append(&greeting, LATTICE_TEXT("Hello, "));
    lattice_append(&greeting, name);
    lattice_append(&greeting, LATTICE_TEXT("!"));

    lattice_buffer result = {0};
    msgpack_write_text(&result, lattice_view(&greeting));
    return lattice_ok(lattice_view(&result));
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("greeter.greet"))) {
        return greet(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
