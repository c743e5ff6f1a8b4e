;; Forwards its request along the link "default" to "test:target", under the operation it was
;; called with, and answers what the host answered: a response or an error.
(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (import "wapc" "__guest_error" (func $guest_error (param i32 i32)))
  (import "wapc" "__host_call"
    (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wapc" "__host_response_len" (func $host_response_len (result i32)))
  (import "wapc" "__host_response" (func $host_response (param i32)))
  (import "wapc" "__host_error_len" (func $host_error_len (result i32)))
  (import "wapc" "__host_error" (func $host_error (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "default")
  (data (i32.const 16) "test:target")
  (func (export "__guest_call") (param $operation_length i32) (param $length i32) (result i32)
    (call $guest_request (i32.const 64) (i32.const 1024))
    (if (result i32)
      (call $host_call
        (i32.const 0) (i32.const 7)
        (i32.const 16) (i32.const 11)
        (i32.const 64) (local.get $operation_length)
        (i32.const 1024) (local.get $length))
      (then
        (local.set $length (call $host_response_len))
        (call $host_response (i32.const 131072))
        (call $guest_response (i32.const 131072) (local.get $length))
        (i32.const 1))
      (else
        (call $guest_error (i32.const 131072)
          (call $read_error (i32.const 131072)))
        (i32.const 0))))
  (func $read_error (param $at i32) (result i32)
    (local $length i32)
    (local.set $length (call $host_error_len))
    (call $host_error (local.get $at))
    (local.get $length)))
