/* Traps three functions deep; a test looks for these lines by their numbers. */

#include "wapc.h"

static char operation[64], payload[65536];
static volatile int depth;

__attribute__((noinline)) static void deepest(int size)
{
    if (size > 2) __builtin_trap(); /* line 10 */
    depth++;
}

__attribute__((noinline)) static void middle(int size)
{
    deepest(size * 2); /* line 16 */
    depth++;
}

EXPORTED("__guest_call") int guest_call(int operation_size, int payload_size)
{
    (void)operation_size;
    guest_request(operation, payload);
    middle(payload_size); /* line 24 */
    guest_response(payload, (unsigned)payload_size);
    return 1;
}
