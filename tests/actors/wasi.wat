;; Exercises WASI with its payload as data: the operation's length selects what.
;;   1 write the payload to standard output    2 the same to standard error
;;   3 sleep for as many milliseconds as the payload has bytes
;;   4 answer the results of reading clocks, randomness, arguments and descriptors
;;   5 answer the results of calls with bad pointers and bad descriptors
(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get"
    (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (global $results (mut i32) (i32.const 512))
  (func $note (param $errno i32)
    (i32.store8 (global.get $results) (local.get $errno))
    (global.set $results (i32.add (global.get $results) (i32.const 1))))
  (func $write (param $descriptor i32) (param $length i32)
    (i32.store (i32.const 256) (i32.const 1024))
    (i32.store (i32.const 260) (local.get $length))
    (call $note (call $fd_write
      (local.get $descriptor) (i32.const 256) (i32.const 1) (i32.const 264))))
  (func $sleep (param $milliseconds i32)
    (i64.store (i32.const 256) (i64.const 7))
    (i32.store (i32.const 272) (i32.const 1))
    (i64.store (i32.const 280)
      (i64.mul (i64.extend_i32_u (local.get $milliseconds)) (i64.const 1000000)))
    (call $note (call $poll_oneoff
      (i32.const 256) (i32.const 320) (i32.const 1) (i32.const 400)))
    (call $note (i32.load (i32.const 400)))
    (call $note (i32.load (i32.const 320))))
  (func (export "__guest_call") (param $way i32) (param $length i32) (result i32)
    (call $guest_request (i32.const 0) (i32.const 1024))
    (if (i32.eq (local.get $way) (i32.const 1))
      (then (call $write (i32.const 1) (local.get $length))))
    (if (i32.eq (local.get $way) (i32.const 2))
      (then (call $write (i32.const 2) (local.get $length))))
    (if (i32.eq (local.get $way) (i32.const 3)) (then (call $sleep (local.get $length))))
    (if (i32.eq (local.get $way) (i32.const 4))
      (then
        (call $note (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 256)))
        (call $note (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 256)))
        (call $note (call $random_get (i32.const 256) (i32.const 32)))
        (call $note (call $args_sizes_get (i32.const 256) (i32.const 260)))
        (call $note (i32.load (i32.const 256)))
        (call $note (call $fd_read (i32.const 0) (i32.const 256) (i32.const 0) (i32.const 264)))
        (call $note (i32.load (i32.const 264)))
        (call $note (call $fd_prestat_get (i32.const 3) (i32.const 256)))))
    (if (i32.eq (local.get $way) (i32.const 5))
      (then
        (call $note (call $clock_time_get (i32.const 9) (i64.const 0) (i32.const 256)))
        (call $note (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const -4)))
        (call $note (call $random_get (i32.const 262140) (i32.const 32)))
        (call $note (call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 0)))
        (call $note (call $fd_write (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 0)))
        (call $note (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
        (call $note (call $poll_oneoff
          (i32.const -8) (i32.const 0) (i32.const 1) (i32.const 0)))))
    (call $guest_response
      (i32.const 512) (i32.sub (global.get $results) (i32.const 512)))
    (i32.const 1)))
