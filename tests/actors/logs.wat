;; Logs its payload once for each byte of it, then answers with nothing.
(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (import "wapc" "__console_log" (func $console_log (param i32 i32)))
  (memory (export "memory") 2)
  (func (export "__guest_call") (param i32) (param $length i32) (result i32)
    (local $left i32)
    (call $guest_request (i32.const 0) (i32.const 1024))
    (local.set $left (local.get $length))
    (loop $again
      (call $console_log (i32.const 1024) (local.get $length))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (call $guest_response (i32.const 0) (i32.const 0))
    (i32.const 1)))
