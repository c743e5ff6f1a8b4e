/*
 * echo: answers every operation with its own payload.
 *
 * Over HTTP it answers with the body of the request, or, when that is empty, with what was asked
 * for: "GET /path?query".
 */
#include "http.h"
#include "lattice.h"
#include "msgpack.h"

static lattice_bytes request_line(http_request request)
{
    lattice_buffer line = {0};

    lattice_append(&line, request.method);
    lattice_append_byte(&line, ' ');
    lattice_append(&line, request.path);
    if (request.query.size > 0) {
        lattice_append_byte(&line, '?');
        lattice_append(&line, request.query);
    }
    lattice_append_byte(&line, '\n');
    return lattice_view(&line);
}

static lattice_result handle_request(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    http_request request = http_read_request(&reader);

    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }
    if (request.body.size > 0) {
        return http_respond(200, NULL, 0, request.body);
    }
    http_header plain = {LATTICE_TEXT("content-type"), LATTICE_TEXT("text/plain; charset=utf-8")};
    return http_respond(200, &plain, 1, request_line(request));
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("HttpServer.HandleRequest"))) {
        return handle_request(payload);
    }
    return lattice_ok(payload);
}

LATTICE_ACTOR(handle);
