/*
 * relay: sends on what it is told to, along a link of its own.
 *
 * Relay.Forward takes {namespace, binding, operation, payload}, makes that call, and answers
 * with its result: the response as it came, or the host's error.
 */
#include "lattice.h"
#include "msgpack.h"

typedef struct {
    lattice_bytes namespace;
    lattice_bytes binding;
    lattice_bytes operation;
    lattice_bytes payload;
} message;

static message read_message(msgpack_reader *reader)
{
    message read = {
        .namespace = LATTICE_TEXT("example:relay"),
        .binding = LATTICE_TEXT("default"),
    };

    for (size_t left = msgpack_read_map(reader); left > 0; left--) {
        lattice_bytes name = msgpack_read_text(reader);
        if (lattice_equal(name, LATTICE_TEXT("namespace"))) {
            read.namespace = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("binding"))) {
            read.binding = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("operation"))) {
            read.operation = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("payload"))) {
            read.payload = msgpack_read_binary(reader);
        } else {
            msgpack_skip(reader);
        }
    }
    return read;
}

static lattice_result forward(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    message read = read_message(&reader);

    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }
    if (read.operation.size == 0) {
        return lattice_error(LATTICE_TEXT("Relay.Forward wants an operation"));
    }
    return lattice_call(read.binding, read.namespace, read.operation, read.payload);
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("Relay.Forward"))) {
        return forward(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
