;; No actor: it has a memory and nothing to call.
(module (memory (export "memory") 1))
