;; Takes its request twice, which wasmCloud forbids.
(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "__guest_call") (param i32 i32) (result i32)
    (call $guest_request (i32.const 0) (i32.const 1024))
    (call $guest_request (i32.const 0) (i32.const 1024))
    (i32.const 1)))
