#include "lattice.h"
#include "msgpack.h"

static lattice_result handle(lattice_bytes operation, lattice_bytes payload)
{
    (void)operation;
    msgpack_reader reader = msgpack_begin(payload);
    lattice_buffer answer = {0};

    msgpack_read_array(&reader);
    msgpack_write_array(&answer, 5);
    msgpack_write_integer(&answer, msgpack_read_integer(&reader));
    msgpack_write_boolean(&answer, msgpack_read_boolean(&reader));
    msgpack_write_text(&answer, msgpack_read_text(&reader));
    msgpack_write_binary(&answer, msgpack_read_binary(&reader));
    msgpack_skip(&reader);
    size_t pairs = msgpack_read_map(&reader);
    msgpack_write_map(&answer, pairs);
    for (; pairs > 0; pairs--) {
        msgpack_write_text(&answer, msgpack_read_text(&reader));
        msgpack_write_nil(&answer);
        msgpack_skip(&reader);
    }
    return msgpack_end(&reader) ? lattice_ok(lattice_view(&answer)) : msgpack_failure(&reader);
}

LATTICE_ACTOR(handle);
