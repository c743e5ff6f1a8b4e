/*
 * http.h: the contract wasmcloud:httpserver, operation HttpServer.HandleRequest.
 *
 * The HTTP provider sends each request as a map {method, path, queryString, header, body} and
 * turns the actor's {statusCode, header, body} into the response.
 */
#ifndef LATTICE_HTTP_H
#define LATTICE_HTTP_H

#include "lattice.h"
#include "msgpack.h"

/* A request, without its headers. Fields that were not sent are empty. */
typedef struct {
    lattice_bytes method;
    lattice_bytes path;
    /* What follows the question mark, as the client sent it. */
    lattice_bytes query;
    lattice_bytes body;
} http_request;

typedef struct {
    lattice_bytes name;
    lattice_bytes value;
} http_header;

/* Read a whole payload. What is wrong with it, if anything, is in the reader: see msgpack_end. */
static inline http_request http_read_request(msgpack_reader *reader)
{
    http_request request = {0};

    for (size_t left = msgpack_read_map(reader); left > 0; left--) {
        lattice_bytes name = msgpack_read_text(reader);
        if (lattice_equal(name, LATTICE_TEXT("method"))) {
            request.method = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("path"))) {
            request.path = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("queryString"))) {
            request.query = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("body"))) {
            request.body = msgpack_read_binary(reader);
        } else {
            msgpack_skip(reader);
        }
    }
    return request;
}

static inline lattice_result http_respond(int64_t status, const http_header *headers,
                                          size_t header_count, lattice_bytes body)
{
    lattice_buffer response = {0};

    msgpack_write_map(&response, 3);
    msgpack_write_text(&response, LATTICE_TEXT("statusCode"));
    msgpack_write_integer(&response, status);
    msgpack_write_text(&response, LATTICE_TEXT("header"));
    msgpack_write_map(&response, header_count);
    for (size_t i = 0; i < header_count; i++) {
        msgpack_write_text(&response, headers[i].name);
        msgpack_write_array(&response, 1);
        msgpack_write_text(&response, headers[i].value);
    }
    msgpack_write_text(&response, LATTICE_TEXT("body"));
    msgpack_write_binary(&response, body);
    return lattice_ok(lattice_view(&response));
}

#endif
