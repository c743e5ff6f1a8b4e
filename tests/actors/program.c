/* A program: writes its arguments and variables, a line each, and exits with the number of arguments;
   without any it returns. */

#include "wapc.h"

typedef unsigned u32;

struct piece {
    char *data;
    u32 size;
};

WASI("args_sizes_get") int args_sizes_get(u32 *count, u32 *size);
WASI("args_get") int args_get(char **strings, char *buffer);
WASI("environ_sizes_get") int environ_sizes_get(u32 *count, u32 *size);
WASI("environ_get") int environ_get(char **strings, char *buffer);
WASI("fd_write") int fd_write(u32 fd, const struct piece *pieces, u32 count, u32 *size);
WASI("proc_exit") _Noreturn void proc_exit(int status);

static char *strings[64], buffer[4096];
static u32 count, size;

static void write(u32 fd)
{
    for (u32 each = 0; each < count; each++) {
        u32 length = 0, written;
        while (strings[each][length])
            length++;
        strings[each][length] = '\n';
        fd_write(fd, &(struct piece){strings[each], length + 1}, 1, &written);
    }
}

EXPORTED("_start") void start(void)
{
    environ_sizes_get(&count, &size);
    environ_get(strings, buffer);
    write(2);
    args_sizes_get(&count, &size);
    args_get(strings, buffer);
    write(1);
    if (count)
        proc_exit((int)count);
}
