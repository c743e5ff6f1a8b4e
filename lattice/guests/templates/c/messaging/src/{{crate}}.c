/*
 * {{name}}: answers every message whose sender waits with a greeting.
 */
#include "lattice.h"
#include "messaging.h"
#include "msgpack.h"

static lattice_result handle_message(lattice_bytes payload)
{
    msgpack_reader reader = msgpack_begin(payload);
    messaging_message message = messaging_read(&reader);
    if (!msgpack_end(&reader)) {
        return msgpack_failure(&reader);
    }
    lattice_log(message.subject);
    if (message.reply_to.size == 0) {
        return lattice_ok((lattice_bytes){0});
    }

    lattice_buffer greeting = {0};
    lattice_append(&greeting, LATTICE_TEXT("Hello, "));
    lattice_append(&greeting, message.body);
    lattice_append(&greeting, LATTICE_TEXT("!"));
    return messaging_publish(
        (messaging_message){.subject = message.reply_to, .body = lattice_view(&greeting)});
}

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    if (lattice_equal(operation, LATTICE_TEXT("MessageSubscriber.HandleMessage"))) {
        return handle_message(payload);
    }
    return lattice_unknown_operation(operation);
}

LATTICE_ACTOR(handle);
