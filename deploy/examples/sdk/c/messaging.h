/*
 * messaging.h: the contract wasmcloud:messaging, operations MessageSubscriber.HandleMessage and
 * Messaging.Publish.
 *
 * The messaging provider sends each message of a subject that it subscribed to for the actor as a
 * map {subject, replyTo, body}; the actor publishes maps of the same fields along its link.
 */
#ifndef LATTICE_MESSAGING_H
#define LATTICE_MESSAGING_H

#include "lattice.h"
#include "msgpack.h"

typedef struct {
    lattice_bytes subject;
    /* The subject that the sender waits for an answer on; empty when nobody waits. */
    lattice_bytes reply_to;
    lattice_bytes body;
} messaging_message;

/* Read a whole payload. What is wrong with it, if anything, is in the reader: see msgpack_end. */
static inline messaging_message messaging_read(msgpack_reader *reader)
{
    messaging_message message = {0};

    for (size_t left = msgpack_read_map(reader); left > 0; left--) {
        lattice_bytes name = msgpack_read_text(reader);
        if (lattice_equal(name, LATTICE_TEXT("subject"))) {
            message.subject = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("replyTo"))) {
            message.reply_to = msgpack_read_text(reader);
        } else if (lattice_equal(name, LATTICE_TEXT("body"))) {
            message.body = msgpack_read_binary(reader);
        } else {
            msgpack_skip(reader);
        }
    }
    return message;
}

/* Publish along the default link for wasmcloud:messaging. */
static inline lattice_result messaging_publish(messaging_message message)
{
    lattice_buffer payload = {0};

    msgpack_write_map(&payload, 3);
    msgpack_write_text(&payload, LATTICE_TEXT("subject"));
    msgpack_write_text(&payload, message.subject);
    msgpack_write_text(&payload, LATTICE_TEXT("replyTo"));
    if (message.reply_to.size > 0) {
        msgpack_write_text(&payload, message.reply_to);
    } else {
        msgpack_write_nil(&payload);
    }
    msgpack_write_text(&payload, LATTICE_TEXT("body"));
    msgpack_write_binary(&payload, message.body);
    return lattice_call(LATTICE_TEXT("default"), LATTICE_TEXT("wasmcloud:messaging"),
                        LATTICE_TEXT("Messaging.Publish"), lattice_view(&payload));
}

#endif
