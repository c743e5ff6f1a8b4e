/*
 * wit.h: calling functions of WIT interfaces, such as those of wasi:blobstore.
 *
 * A function is the operation "interface.function". Its arguments are a msgpack array, its result is
 * one msgpack value; a result<T, E> is a map of one, {ok: T} or {err: E}.
 */
#ifndef LATTICE_WIT_H
#define LATTICE_WIT_H

#include "lattice.h"
#include "msgpack.h"

/* Read as far as into a result: true for ok; false for err, and for what is no result. */
static inline bool wit_read_result(msgpack_reader *reader)
{
    size_t offset = (size_t)(reader->at - reader->start);
    size_t cases = msgpack_read_map(reader);
    lattice_bytes name = msgpack_read_text(reader);
    bool is_ok = lattice_equal(name, LATTICE_TEXT("ok"));

    if (cases != 1 || !(is_ok || lattice_equal(name, LATTICE_TEXT("err")))) {
        msgpack_fail(reader, offset, LATTICE_TEXT("want a result"));
    }
    return is_ok && reader->error.size == 0;
}

/*
 * Call a function that gives result<T, string>, along the link "default". What comes back is T, still
 * to be read, or the text of the error, whether the function said it or the host.
 */
static inline lattice_result wit_call(lattice_bytes interface, lattice_bytes function,
                                      lattice_bytes arguments)
{
    lattice_result called =
        lattice_call(LATTICE_TEXT("default"), interface, function, arguments);
    if (!called.ok) {
        return called;
    }

    msgpack_reader reader = msgpack_begin(called.body);
    bool is_ok = wit_read_result(&reader);
    lattice_bytes value = {reader.at, msgpack_rest(&reader)};
    if (is_ok) {
        return lattice_ok(value);
    }
    lattice_bytes text = msgpack_read_text(&reader);
    return msgpack_end(&reader) ? lattice_error(text) : msgpack_failure(&reader);
}

#endif
