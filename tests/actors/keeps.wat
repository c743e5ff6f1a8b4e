;; Leaves something behind, and looks for what others left. By the first byte of its payload:
;; "n" answers with the number of calls that this instance has served; otherwise it fills its memory,
;; a global and a table with secrets and then, by that byte, returns (r), traps (t), makes a host call
;; (h), computes for ever (c), grows first (g), answers with an error (e); "?" answers with the
;; number of secrets that it finds, in all the memory that it can have.
(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (import "wapc" "__host_call"
    (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (table $table 64 funcref)
  (elem declare func $recurse)
  (global $secret i64 (i64.const 0x5ec2e75ec2e75ec2))
  (global $kept (mut i64) (i64.const 0))
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 100) "name")

  (func $bytes (result i32) (i32.mul (memory.size) (i32.const 65536)))
  (func $fill (local $at i32)
    (local.set $at (i32.const 128))
    (loop $next
      (i64.store (local.get $at) (global.get $secret))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (call $bytes))))
    (global.set $kept (global.get $secret))
    (table.set $table (i32.const 63) (ref.func $recurse))
    (drop (call $recurse (i32.const 200) (global.get $secret))))
  ;; Its locals leave the secret all over the stack.
  (func $recurse (param $depth i32) (param $value i64) (result i64)
    (if (result i64) (local.get $depth)
      (then (i64.add (local.get $value)
        (call $recurse (i32.sub (local.get $depth) (i32.const 1)) (local.get $value))))
      (else (local.get $value))))
  (func $found (result i32) (local $at i32) (local $count i32)
    (loop $next
      (local.set $count (i32.add (local.get $count)
        (i64.eq (i64.load (local.get $at)) (global.get $secret))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (call $bytes))))
    (local.set $count (i32.add (local.get $count)
      (i64.eq (global.get $kept) (global.get $secret))))
    (i32.add (local.get $count)
      (i32.eqz (ref.is_null (table.get $table (i32.const 63))))))
  (func $grow
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))
  (func $answer (param $value i32)
    (i32.store (i32.const 0) (local.get $value))
    (call $guest_response (i32.const 0) (i32.const 4)))

  (func (export "__guest_call") (param $operation_length i32) (param $length i32) (result i32)
    (local $what i32)
    (call $guest_request (i32.const 16) (i32.const 0))
    (local.set $what (i32.load8_u (i32.const 0)))
    (i64.store (i32.const 0) (i64.const 0))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (i32.eq (local.get $what) (i32.const 0x6e)) ;; n
      (then (call $answer (global.get $calls)) (return (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 0x3f)) ;; ?
      (then
        (call $grow)
        (call $answer (call $found))
        (return (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 0x67)) (then (call $grow))) ;; g
    (call $fill)
    (if (i32.eq (local.get $what) (i32.const 0x74)) (then (unreachable))) ;; t
    (if (i32.eq (local.get $what) (i32.const 0x63)) (then (loop $spin (br $spin)))) ;; c
    (if (i32.eq (local.get $what) (i32.const 0x65)) (then (return (i32.const 0)))) ;; e
    (if (i32.eq (local.get $what) (i32.const 0x68)) ;; h
      (then (drop (call $host_call (i32.const 100) (i32.const 4) (i32.const 100) (i32.const 4)
        (i32.const 100) (i32.const 4) (i32.const 0) (i32.const 0)))))
    (call $answer (global.get $calls))
    (i32.const 1)))
