;; Asks for one block larger than it may have, and fails as a Rust program does.
(module
  (memory (export "memory") 1)
  (func $rust_oom (unreachable))
  (func (export "__guest_call") (param i32 i32) (result i32)
    (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (call $rust_oom)))
    (i32.const 1)))
