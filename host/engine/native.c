/* The steps of a call that decide nothing, in C: start an instance, run it on, let it go.

Built with the distribution where there is a C compiler (hatch_build.py). Without it the engine takes
the same steps through ctypes (steps.py, wapc.py), three times slower; one test suite runs both. What
is here is the common case only: whatever is out of the ordinary (a pointer that lies, a payload that
is too large, a response that does not fit) is handed to the Python function of the same name, so that
every rule and every error text exists once.

It knows no header of wasmtime's: `library` is filled in by ffi.py, which knows the C API and checks it.
Nothing here allocates, blocks or calls Python, but through a delegate. `struct slot` is `ffi.Slot`. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define EXPORTED __attribute__((visibility("default")))
#define RESPONSE_BYTES 4096 /* larger responses are copied by Python, where the copy costs more than the way there */

typedef void *handle;

struct item { /* wasmtime_extern_t and wasmtime_val_t: a kind, then a union */
  uint64_t kind;
  uint64_t of[3];
};

struct continuation { /* wasmtime_async_continuation_t */
  bool (*callback)(void *);
  void *env;
  void *finalizer;
};

struct slot {
  uint64_t instance[2];
  handle trap, error;
  struct item function, memory, arguments[2], result;
  uint64_t completed; /* 1 when the host call that the guest waits for is over */
  uint64_t fuel;
  handle store, context, future;
  uint64_t phase; /* functions begun so far; 0 while the instance is being made */
  uint64_t cpu_ns;
  const uint8_t *operation, *payload;
  uint64_t operation_bytes, payload_bytes;
  uint64_t requested;
  uint64_t responded, response_bytes, response_bytes_max;
  uint64_t calling, request_bytes_max;
  uint32_t request[8]; /* four pieces of memory: binding, namespace, operation, payload */
  handle results;      /* where the result of the host call goes */
  const uint8_t *host_response;
  uint64_t host_response_bytes, host_responded;
  uint64_t memory_bytes;
  uint8_t *response; /* room for RESPONSE_BYTES, in pages that a call without response does not touch */
};

struct entry {
  const char *name;
  uint64_t name_bytes;
};

struct program { /* ffi.Program: a module and the functions to run on an instance of it */
  handle engine, module;
  const struct entry *entries;
  uint64_t entries_count;
  uint64_t takes_call; /* whether the last one takes the call's sizes and gives a result */
};

enum { DONE, WAITS, FAULT };

typedef handle (*immediate)(void *, handle, uint32_t *, size_t);
typedef void (*suspending)(void *, handle, const struct item *, size_t, handle, size_t, handle *,
                           struct continuation *);

static struct { /* ffi.Library */
  handle (*store_new)(handle, void *, void *);
  handle (*store_context)(handle);
  void (*store_delete)(handle);
  void (*store_limiter)(handle, int64_t, int64_t, int64_t, int64_t, int64_t);
  void (*set_epoch_deadline)(handle, uint64_t);
  void (*yield_on_epoch)(handle, uint64_t);
  handle (*set_fuel)(handle, uint64_t);
  handle (*get_fuel)(handle, uint64_t *);
  handle (*instantiate_async)(handle, handle, void *, handle *, handle *);
  handle (*call_async)(handle, void *, void *, size_t, void *, size_t, handle *, handle *);
  bool (*poll)(handle);
  void (*future_delete)(handle);
  bool (*export_get)(handle, void *, const char *, size_t, void *);
  uint8_t *(*memory_data)(handle, void *);
  size_t (*memory_size)(handle, void *);
  handle (*caller_context)(handle);
  void *(*context_data)(handle);
  /* What is called for everything out of the ordinary. */
  immediate guest_request, guest_response, host_response;
  suspending host_call;
} library;

EXPORTED uint64_t lattice_slot_bytes(void) { return sizeof(struct slot); }

static uint64_t name_bytes_max;

EXPORTED void lattice_init(const void *filled, uint64_t longest_name) {
  memcpy(&library, filled, sizeof library);
  name_bytes_max = longest_name;
}

static uint64_t now_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Poll what is under way and begin what follows, until the guest waits, has failed, or is done. */
EXPORTED int lattice_run(struct slot *slot, const struct program *program, int clock) {
  for (;;) {
    if (slot->future) {
      uint64_t began_ns = now_ns(clock);
      bool over = library.poll(slot->future);
      slot->cpu_ns += now_ns(clock) - began_ns;
      if (!over)
        return WAITS;
      library.future_delete(slot->future);
      slot->future = NULL;
      if (slot->trap || slot->error)
        return FAULT;
      if (slot->phase == program->entries_count)
        return DONE;
    }
    if (slot->phase == 0)
      library.export_get(slot->context, slot->instance, "memory", 6, &slot->memory);
    const struct entry *entry = &program->entries[slot->phase++];
    bool last = slot->phase == program->entries_count && program->takes_call;
    library.export_get(slot->context, slot->instance, entry->name, entry->name_bytes, &slot->function);
    slot->arguments[0].kind = slot->arguments[1].kind = slot->result.kind = 0; /* i32 */
    slot->arguments[0].of[0] = slot->operation_bytes;
    slot->arguments[1].of[0] = slot->payload_bytes;
    slot->future = library.call_async(slot->context, slot->function.of, slot->arguments, last ? 2 : 0,
                                      &slot->result, last ? 1 : 0, &slot->trap, &slot->error);
  }
}

/* Have the slot say what one call brings, and nothing of the one before. */
static void prepare(struct slot *slot, const uint8_t *operation, uint64_t operation_bytes, const uint8_t *payload,
                    uint64_t payload_bytes) {
  slot->trap = slot->error = NULL;
  slot->phase = slot->cpu_ns = slot->memory_bytes = 0;
  slot->requested = slot->responded = slot->calling = slot->host_responded = 0;
  slot->operation = operation;
  slot->operation_bytes = operation_bytes;
  slot->payload = payload;
  slot->payload_bytes = payload_bytes;
}

static void allow(struct slot *slot, uint64_t fuel) {
  library.set_epoch_deadline(slot->context, 1);
  slot->fuel = fuel;
  if (fuel)
    library.set_fuel(slot->context, fuel);
}

/* Make the store and the instance, and run. Limits of 0 are not set. */
EXPORTED int lattice_start(struct slot *slot, const struct program *program, uint64_t memory_bytes_max,
                           uint64_t table_elements_max, uint64_t fuel, const uint8_t *operation,
                           uint64_t operation_bytes, const uint8_t *payload, uint64_t payload_bytes) {
  prepare(slot, operation, operation_bytes, payload, payload_bytes);
  slot->store = library.store_new(program->engine, slot, NULL);
  slot->context = library.store_context(slot->store);
  if (memory_bytes_max)
    library.store_limiter(slot->store, (int64_t)memory_bytes_max, (int64_t)table_elements_max, 1, 1, 1);
  library.yield_on_epoch(slot->context, 1);
  allow(slot, fuel);
  slot->future = library.instantiate_async(program->module, slot->context, slot->instance, &slot->trap,
                                           &slot->error);
  return lattice_run(slot, program, CLOCK_MONOTONIC);
}

/* Run another call on the instance of one that returned. */
EXPORTED int lattice_again(struct slot *slot, const struct program *program, uint64_t fuel, const uint8_t *operation,
                           uint64_t operation_bytes, const uint8_t *payload, uint64_t payload_bytes) {
  prepare(slot, operation, operation_bytes, payload, payload_bytes);
  slot->phase = program->entries_count - 1;
  allow(slot, fuel);
  return lattice_run(slot, program, CLOCK_MONOTONIC);
}

/* Note what is left to know of a call that is over, and keep its instance. */
EXPORTED void lattice_rest(struct slot *slot) {
  if (slot->phase)
    slot->memory_bytes = library.memory_size(slot->context, slot->memory.of);
  if (slot->fuel) {
    uint64_t left = 0;
    library.get_fuel(slot->context, &left);
    slot->fuel -= left;
  }
}

/* Unwind the guest if it is not over, note what is left to know, and free it. Safe to call twice. */
EXPORTED void lattice_end(struct slot *slot) {
  if (slot->future) {
    library.future_delete(slot->future);
    slot->future = NULL;
  }
  if (!slot->store)
    return;
  lattice_rest(slot);
  library.store_delete(slot->store);
  slot->store = slot->context = NULL;
}

/* Each call has a store of its own, whose data is the call's slot. */
static struct slot *slot_of(handle caller) {
  return library.context_data(library.caller_context(caller));
}

/* Where a piece of the guest's memory is; NULL if it is not in it, or there is no memory yet. The sum of
   two 32-bit numbers does not overflow, and the memory's size is asked for anew: it may have grown. */
static uint8_t *piece(struct slot *slot, uint32_t pointer, uint64_t bytes) {
  if (!slot->phase || (uint64_t)pointer + bytes > library.memory_size(slot->context, slot->memory.of))
    return NULL;
  return library.memory_data(slot->context, slot->memory.of) + pointer;
}

/* Arguments of an immediate function are raw values of 16 bytes each: every fourth word. */

EXPORTED handle lattice_guest_request(void *env, handle caller, uint32_t *words, size_t count) {
  struct slot *slot = slot_of(caller);
  uint8_t *operation = piece(slot, words[0], slot->operation_bytes);
  uint8_t *payload = piece(slot, words[4], slot->payload_bytes);
  if (slot->requested || !operation || !payload)
    return library.guest_request(env, caller, words, count);
  slot->requested = 1;
  memcpy(operation, slot->operation, slot->operation_bytes);
  memcpy(payload, slot->payload, slot->payload_bytes);
  return NULL;
}

EXPORTED handle lattice_guest_response(void *env, handle caller, uint32_t *words, size_t count) {
  struct slot *slot = slot_of(caller);
  uint32_t bytes = words[4];
  uint8_t *response = piece(slot, words[0], bytes);
  if (!response || bytes > RESPONSE_BYTES || bytes > slot->response_bytes_max)
    return library.guest_response(env, caller, words, count);
  memcpy(slot->response, response, bytes);
  slot->response_bytes = bytes;
  slot->responded = 1;
  return NULL;
}

EXPORTED handle lattice_host_response_len(void *env, handle caller, uint32_t *words, size_t count) {
  struct slot *slot = slot_of(caller);
  (void)env, (void)count;
  words[0] = slot->host_responded ? (uint32_t)slot->host_response_bytes : 0;
  return NULL;
}

EXPORTED handle lattice_host_response(void *env, handle caller, uint32_t *words, size_t count) {
  struct slot *slot = slot_of(caller);
  uint8_t *room = slot->host_responded ? piece(slot, words[0], slot->host_response_bytes) : NULL;
  if (!room)
    return library.host_response(env, caller, words, count);
  memcpy(room, slot->host_response, slot->host_response_bytes);
  slot->host_responded = 0;
  return NULL;
}

static bool is_completed(void *cell) { return *(volatile uint64_t *)cell != 0; }

/* Only notes where in the memory the request is: it is read once the guest is suspended, and stays as it
   is for so long. */
EXPORTED void lattice_host_call(void *env, handle caller, const struct item *arguments, size_t count,
                                handle results, size_t results_count, handle *trap,
                                struct continuation *continuation) {
  struct slot *slot = slot_of(caller);
  for (size_t each = 0; each < 4; each++) {
    uint32_t pointer = (uint32_t)arguments[2 * each].of[0], bytes = (uint32_t)arguments[2 * each + 1].of[0];
    if (!piece(slot, pointer, bytes) || bytes > (each < 3 ? name_bytes_max : slot->request_bytes_max)) {
      library.host_call(env, caller, arguments, count, results, results_count, trap, continuation);
      return;
    }
    slot->request[2 * each] = pointer;
    slot->request[2 * each + 1] = bytes;
  }
  slot->results = results;
  slot->completed = slot->host_responded = 0;
  slot->calling = 1;
  continuation->callback = is_completed;
  continuation->env = &slot->completed;
  continuation->finalizer = NULL;
}
