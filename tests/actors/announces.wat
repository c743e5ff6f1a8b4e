;; Publishes every message that it gets, whole, as the body of one to "orders.seen".
(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (import "wapc" "__guest_error" (func $guest_error (param i32 i32)))
  (import "wapc" "__host_call"
    (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wapc" "__host_error_len" (func $host_error_len (result i32)))
  (import "wapc" "__host_error" (func $host_error (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "default")
  (data (i32.const 16) "wasmcloud:messaging")
  (data (i32.const 48) "Messaging.Publish")
  ;; msgpack: {"subject": "orders.seen", "body": bin of a length to be filled in}
  (data (i32.const 256) "\82\a7subject\aborders.seen\a4body\c6\00\00\00\00")
  (func (export "__guest_call") (param $operation_length i32) (param $length i32) (result i32)
    ;; The body follows its header, which ends at 256 + 31.
    (call $guest_request (i32.const 128) (i32.const 287))
    (i32.store8 (i32.const 283) (i32.shr_u (local.get $length) (i32.const 24)))
    (i32.store8 (i32.const 284) (i32.shr_u (local.get $length) (i32.const 16)))
    (i32.store8 (i32.const 285) (i32.shr_u (local.get $length) (i32.const 8)))
    (i32.store8 (i32.const 286) (local.get $length))
    (call $host_call
      (i32.const 0) (i32.const 7)
      (i32.const 16) (i32.const 19)
      (i32.const 48) (i32.const 17)
      (i32.const 256) (i32.add (i32.const 31) (local.get $length)))
    (if (result i32)
      (then
        (call $guest_response (i32.const 0) (i32.const 0))
        (i32.const 1))
      (else
        (local.set $length (call $host_error_len))
        (call $host_error (i32.const 131072))
        (call $guest_error (i32.const 131072) (local.get $length))
        (i32.const 0)))))
