;; Has every start function there is, the start section included, and answers with the order in
;; which they ran. The start section also makes a host call.
(module
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (import "wapc" "__host_call"
    (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (data (i32.const 100) "name")
  (func $note (param $letter i32)
    (i32.store8 (global.get $count) (local.get $letter))
    (global.set $count (i32.add (global.get $count) (i32.const 1))))
  (func $section
    (drop (call $host_call (i32.const 100) (i32.const 4) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (call $note (i32.const 0x73)))
  (start $section)
  (func (export "wapc_init") (call $note (i32.const 0x77)))
  (func (export "_start") (call $note (i32.const 0x5f)))
  (func (export "_initialize") (call $note (i32.const 0x69)))
  (func (export "__guest_call") (param i32 i32) (result i32)
    (call $guest_response (i32.const 0) (global.get $count))
    (i32.const 1)))
