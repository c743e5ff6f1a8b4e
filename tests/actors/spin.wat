;; Never gives the CPU back.
(module
  (memory (export "memory") 1)
  (func $spin_forever (loop $again (br $again)))
  (func (export "__guest_call") (param i32 i32) (result i32)
    (call $spin_forever)
    (i32.const 1)))
