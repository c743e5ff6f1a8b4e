/*
 * hello-c: answers every request with a greeting.
 *
 * GET / answers "Hello, world!", GET /ada answers "Hello, ada!".
 */
#include "http.h"
#include "lattice.h"
#include "msgpack.h"

static lattice_bytes name_of(lattice_bytes path)
{
    if (path.size <= 1) {
        return LATTICE_TEXT("world");
    }
    return (lattice_bytes){path.data + 1, path.size - 1};
}

static lattice_result handle_request(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    http_request request = http_read_request(&reader);
    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }

    lattice_buffer greeting = {0};
    lattice_append(&greeting, LATTICE_TEXT("Hello, "));
    lattice_append(&greeting, name_of(request.path));
    lattice_append(&greeting, LATTICE_TEXT("!\n"));

    http_header plain = {LATTICE_TEXT("content-type"), LATTICE_TEXT("text/plain; charset=utf-8")};
    return http_respond(200, &plain, 1, lattice_view(&greeting));
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("HttpServer.HandleRequest"))) {
        return handle_request(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
