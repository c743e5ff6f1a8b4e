;; Asks for two things that no host has, and for one under a wrong type.
(module
  (import "env" "launch" (func (param i32)))
  (import "wapc" "__host_teleport" (func))
  (import "wapc" "__console_log" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1)))
