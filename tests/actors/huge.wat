;; Wants 256 MiB before it does anything.
(module
  (memory (export "memory") 4096)
  (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1)))
