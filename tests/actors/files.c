/* Uses the directory that it finds at descriptor 3; the operation's first letter says for what, and
   the payload is a path. Answers a byte of WASI's error number, then what it read.
     r  read a file            w  create a file and write its name into it
     l  list the directory     o  open the file again and again until that fails
     t  open the file and trap s  open the file and sleep for a minute */

#include "wapc.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned u32;
typedef unsigned long long u64;

struct piece {
    char *data;
    u32 size;
};

struct subscription {
    u64 userdata, tag;
    u32 clock, padding;
    u64 timeout, precision, flags;
};

WASI("path_open")
u16 path_open(u32 fd, u32 lookup, const char *path, u32 size, u32 how, u64 rights, u64 inheriting, u32 flags, u32 *opened);
WASI("fd_read") u16 fd_read(u32 fd, const struct piece *pieces, u32 count, u32 *size);
WASI("fd_write") u16 fd_write(u32 fd, const struct piece *pieces, u32 count, u32 *size);
WASI("fd_readdir") u16 fd_readdir(u32 fd, char *buffer, u32 size, u64 cookie, u32 *used);
WASI("poll_oneoff") u16 poll_oneoff(const struct subscription *in, char *out, u32 count, u32 *events);

static char operation[64], payload[65536], answer[65537], event[64];

static u16 open(u32 size, u32 how, u64 rights, u32 *fd)
{
    return path_open(3, 1, payload, size, how, rights, 0, 0, fd);
}

EXPORTED("__guest_call") int guest_call(int operation_size, int payload_size)
{
    static u32 fd, size, count;
    struct piece room = {answer + 1, sizeof answer - 1}, name = {payload, (u32)payload_size};
    struct subscription minute = {.clock = 1, .timeout = 60000000000ull};
    u16 error = 0;
    (void)operation_size;
    guest_request(operation, payload);
    switch (operation[0]) {
    case 'r':
        error = open(name.size, 0, 1 << 1, &fd);
        if (!error)
            error = fd_read(fd, &room, 1, &size);
        break;
    case 'w':
        error = open(name.size, 1, 1 << 6, &fd);
        if (!error)
            error = fd_write(fd, &name, 1, &count);
        break;
    case 'l':
        error = fd_readdir(3, answer + 1, sizeof answer - 1, 0, &size);
        break;
    case 'o':
        while (!(error = open(name.size, 0, 1 << 1, &fd)))
            answer[1]++;
        size = 1;
        break;
    case 't':
        open(name.size, 0, 1 << 1, &fd);
        __builtin_trap();
    case 's':
        open(name.size, 0, 1 << 1, &fd);
        poll_oneoff(&minute, event, 1, &count);
        break;
    }
    answer[0] = (char)error;
    guest_response(answer, size + 1);
    return 1;
}
