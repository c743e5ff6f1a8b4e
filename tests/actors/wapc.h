/* The imports of the guests here, and how they answer. */

#define WAPC(name) __attribute__((import_module("wapc"), import_name(name)))
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
#define EXPORTED(name) __attribute__((export_name(name)))

WAPC("__guest_request") void guest_request(char *operation, char *payload);
WAPC("__guest_response") void guest_response(const char *response, unsigned size);
