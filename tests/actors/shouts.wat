;; Answers with an error text of a whole page of zeros, or with that as a response.
(module
  (import "wapc" "__guest_error" (func $guest_error (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "__guest_call") (param i32) (param $length i32) (result i32)
    (if (result i32) (local.get $length)
      (then (call $guest_response (i32.const 0) (i32.const 65536)) (i32.const 1))
      (else (call $guest_error (i32.const 0) (i32.const 65536)) (i32.const 0)))))
