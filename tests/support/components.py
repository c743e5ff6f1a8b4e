"""Components for tests, written as text, and WIT types as the text of one."""

from collections.abc import Iterator
from pathlib import Path

from host.engine import wit
from host.engine.wasip2_http_errors import ERROR_CODE
from tests.support.wat import assemble

ALLOCATOR = """
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 1024))
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.sub (i32.add (global.get $top) (local.get 2)) (i32.const 1))
          (i32.sub (i32.const 0) (local.get 2))))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (block $enough
        (br_if $enough
          (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq
              (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))
              (i32.const -1))
          (then unreachable)))
      (local.get $at))
"""
"""Memory, and an allocator that never frees: an instance lives for one call."""

CALLER = assemble(f"""
  (component
    (import "acme:math/ops@1.0.0" (instance $ops
      (export "double" (func (param "x" u32) (result u32)))
      (export "try" (func (param "x" u32) (result (result u32 (error string)))))))
    (core module $memory {ALLOCATOR})
    (core instance $memory (instantiate $memory))
    (core func $double (canon lower (func $ops "double")))
    (core func $try (canon lower (func $ops "try")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $main
      (import "ops" "double" (func $double (param i32) (result i32)))
      (import "ops" "try" (func $try (param i32 i32)))
      (func (export "quadruple") (param i32) (result i32)
        (call $double (call $double (local.get 0))))
      (func (export "try") (param i32) (result i32)
        (call $try (local.get 0) (i32.const 64))
        (i32.const 64)))
    (core instance $main (instantiate $main
      (with "ops" (instance (export "double" (func $double)) (export "try" (func $try))))))
    (func (export "try") (param "x" u32) (result (result u32 (error string)))
      (canon lift (core func $main "try") (memory (core memory $memory "memory"))
        (realloc (core func $memory "realloc"))))
    (func $quadruple (param "x" u32) (result u32)
      (canon lift (core func $main "quadruple")))
    (instance $more (export "quadruple" (func $quadruple)))
    (export "acme:math/more@1.0.0" (instance $more)))
""")
"""Exports ``quadruple`` of ``acme:math/more``, which doubles twice through ``acme:math/ops``."""

DOUBLER = assemble("""
  (component
    (core module $main (func (export "double") (param i32) (result i32)
      (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
      (i32.shl (local.get 0) (i32.const 1))))
    (core instance $main (instantiate $main))
    (func $double (param "x" u32) (result u32) (canon lift (core func $main "double")))
    (instance $ops (export "double" (func $double)))
    (export "acme:math/ops@1.0.0" (instance $ops)))
""")
"""Exports ``double`` of ``acme:math/ops``; 13 is too much for it."""

KEEPS = assemble("""
  (component
    (import "acme:math/ops" (instance $ops
      (export "double" (func (param "x" u32) (result u32)))))
    (import "wasi:io/poll@0.2.0" (instance $poll
      (export "pollable" (type $pollable (sub resource)))
      (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
      (alias outer 1 $pollable (type $outer))
      (export "pollable" (type $pollable (eq $outer)))
      (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (import "wasi:http/types@0.2.0" (instance $http
      (export "fields" (type $fields (sub resource)))
      (export "[constructor]fields" (func (result (own $fields))))
      (export "[method]fields.clone"
        (func (param "self" (borrow $fields)) (result (own $fields))))))
    (core func $double (canon lower (func $ops "double")))
    (core func $ready (canon lower (func $poll "[method]pollable.ready")))
    (core func $subscribe (canon lower (func $clock "subscribe-duration")))
    (core func $fields (canon lower (func $http "[constructor]fields")))
    (core func $clone (canon lower (func $http "[method]fields.clone")))
    (core module $main
      (import "host" "double" (func $double (param i32) (result i32)))
      (import "host" "ready" (func $ready (param i32) (result i32)))
      (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
      (import "host" "fields" (func $fields (result i32)))
      (import "host" "clone" (func $clone (param i32) (result i32)))
      (memory (export "memory") 4)
      (global $calls (mut i32) (i32.const 0))
      (global $held (mut i32) (i32.const 0))
      (func $count (export "count") (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (global.get $calls))
      (func (export "ask") (result i32) (drop (call $double (i32.const 1))) (call $count))
      (func (export "trap") (result i32) unreachable)
      (func (export "spin") (result i32) (loop (br 0)) (i32.const 0))
      (func (export "hold-timer") (result i32)
        (global.set $held (call $subscribe (i64.const 0))) (call $count))
      (func (export "look-at-timer") (result i32) (call $ready (global.get $held)))
      (func (export "hold-fields") (result i32)
        (global.set $held (call $fields)) (call $count))
      (func (export "look-at-fields") (result i32) (call $clone (global.get $held))))
    (core instance $main (instantiate $main (with "host" (instance
      (export "double" (func $double)) (export "ready" (func $ready))
      (export "subscribe" (func $subscribe)) (export "fields" (func $fields))
      (export "clone" (func $clone))))))
    (func (export "count") (result u32) (canon lift (core func $main "count")))
    (func (export "ask") (result u32) (canon lift (core func $main "ask")))
    (func (export "trap") (result u32) (canon lift (core func $main "trap")))
    (func (export "spin") (result u32) (canon lift (core func $main "spin")))
    (func (export "hold-timer") (result u32) (canon lift (core func $main "hold-timer")))
    (func (export "look-at-timer") (result u32) (canon lift (core func $main "look-at-timer")))
    (func (export "hold-fields") (result u32) (canon lift (core func $main "hold-fields")))
    (func (export "look-at-fields") (result u32) (canon lift (core func $main "look-at-fields"))))
""")
"""Its functions say which call of their instance they serve."""


def exporting(*exports: tuple[str, str, int]) -> bytes:
    """A component with functions of interfaces, each of which adds a number to its argument."""
    instances = [
        f"""
        (core module $m{index} (func (export "f") (param i32) (result i32)
          (i32.add (local.get 0) (i32.const {number}))))
        (core instance $m{index} (instantiate $m{index}))
        (func $f{index} (param "x" u32) (result u32) (canon lift (core func $m{index} "f")))
        (instance $i{index} (export "{function}" (func $f{index})))
        (export "{interface}" (instance $i{index}))
        """
        for index, (interface, function, number) in enumerate(exports)
    ]
    return assemble(f"(component {' '.join(instances)})")


def relaying(*interfaces: str) -> bytes:
    """A component that exports ``add-0``, ``add-1``, each of which is ``add`` of an interface."""
    relays = [
        f"""
        (import "{interface}" (instance $i{index}
          (export "add" (func (param "x" u32) (result u32)))))
        (core func $i{index} (canon lower (func $i{index} "add")))
        (core module $m{index}
          (import "" "add" (func $add (param i32) (result i32)))
          (func (export "f") (param i32) (result i32) (call $add (local.get 0))))
        (core instance $m{index} (instantiate $m{index}
          (with "" (instance (export "add" (func $i{index}))))))
        (func (export "add-{index}") (param "x" u32) (result u32)
          (canon lift (core func $m{index} "f")))
        """
        for index, interface in enumerate(interfaces)
    ]
    return assemble(f"(component {' '.join(relays)})")


PADDING = wit.Tuple((wit.Primitive("u64"),) * 17)
"""So many flat values that a function takes its parameters in memory."""


def padded(kind: wit.Type) -> wit.Tuple:
    """A type around another that is passed in memory, both ways: then to echo is to do nothing."""
    return wit.Tuple((kind, PADDING))


def padded_value(value: object) -> list[object]:
    return [value, list(range(17))]


def echo(kind: wit.Type) -> bytes:
    """A component that gives back what it was given, of any type.

    ``echo`` does so by itself, ``relay`` through the link ``test:echo/echo``. Both take and give
    ``padded`` values.
    """
    types = _Types()
    name = types.name(padded(kind))
    aliases = "\n".join(f'(alias export $link "{each}" (type ${each}))' for each in types.named)
    return assemble(f"""
      (component
        (import "test:echo/echo" (instance $link
          {types.text}
          (export "echo" (func (param "x" {name}) (result {name})))))
        {aliases}
        {types.outside}
        (core module $memory {ALLOCATOR})
        (core instance $memory (instantiate $memory))
        (core func $link (canon lower (func $link "echo")
          (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
        (core module $main
          (import "link" "echo" (func $link (param i32 i32)))
          (import "memory" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
          (func (export "echo") (param i32) (result i32) (local.get 0))
          (func (export "relay") (param i32) (result i32)
            (local $result i32)
            (local.set $result
              (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 4096)))
            (call $link (local.get 0) (local.get $result))
            (local.get $result)))
        (core instance $main (instantiate $main
          (with "link" (instance (export "echo" (func $link))))
          (with "memory" (instance $memory))))
        (func (export "echo") (param "x" {name}) (result {name}) (canon lift
          (core func $main "echo")
          (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
        (func (export "relay") (param "x" {name}) (result {name}) (canon lift
          (core func $main "relay")
          (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))
    """)


class _Types:
    """Writes types as text: each that needs a name is exported by the instance it is part of."""

    def __init__(self) -> None:
        self.text = ""
        self.outside = ""
        """The types that have no name, once more outside of the instance."""
        self.named: list[str] = []
        self._count = 0

    def name(self, kind: wit.Type) -> str:
        if isinstance(kind, wit.Primitive):
            return kind.name
        parts = {part: self.name(part) for part in kind.parts()}
        self._count += 1
        name = f"t{self._count}"
        body = f"({' '.join(_words(kind, parts))})"
        if isinstance(kind, wit.Record | wit.Variant | wit.Enum | wit.Flags):
            self.text += f'(type $d{name} {body}) (export "{name}" (type ${name} (eq $d{name})))\n'
            self.named.append(name)
        else:
            self.text += f"(type ${name} {body})\n"
            self.outside += f"(type ${name} {body})\n"
        return f"${name}"


def _words(kind: wit.Type, parts: dict[wit.Type, str]) -> Iterator[str]:
    match kind:
        case wit.List(element):
            yield from ("list", parts[element])
        case wit.Tuple(elements):
            yield "tuple"
            yield from (parts[each] for each in elements)
        case wit.Option(payload):
            yield from ("option", parts[payload])
        case wit.Result(good, bad):
            yield "result"
            if good is not None:
                yield parts[good]
            if bad is not None:
                yield f"(error {parts[bad]})"
        case wit.Record(fields):
            yield "record"
            yield from (f'(field "{name}" {parts[each]})' for name, each in fields)
        case wit.Variant(cases):
            yield "variant"
            for name, each in cases:
                yield f'(case "{name}")' if each is None else f'(case "{name}" {parts[each]})'
        case wit.Enum(names):
            yield "enum"
            yield from (f'"{name}"' for name in names)
        case wit.Flags(names):
            yield "flags"
            yield from (f'"{name}"' for name in names)


def _rewriting() -> bytes:
    types = _Types()
    code = types.name(ERROR_CODE)
    aliases = "\n".join(f'(alias export $types "{each}" (type ${each}))' for each in types.named)
    outer = "\n".join(
        f'(alias outer 1 ${each} (type $o{each})) (export "{each}" (type $h{each} (eq $o{each})))'
        for each in types.named
    )
    return assemble(f"""
      (component
        (import "wasi:http/types@0.2.3" (instance $types
          {types.text}
          (export "outgoing-request" (type $request (sub resource)))
          (export "request-options" (type $options (sub resource)))
          (export "future-incoming-response" (type $future (sub resource)))
          (export "[method]outgoing-request.set-authority" (func
            (param "self" (borrow $request)) (param "authority" (option string))
            (result (result))))))
        {aliases}
        (alias export $types "outgoing-request" (type $request))
        (alias export $types "request-options" (type $options))
        (alias export $types "future-incoming-response" (type $future))
        (import "wasi:http/outgoing-handler@0.2.3" (instance $next
          {outer}
          (alias outer 1 $request (type $orequest))
          (alias outer 1 $options (type $ooptions))
          (alias outer 1 $future (type $ofuture))
          (export "outgoing-request" (type $hrequest (eq $orequest)))
          (export "request-options" (type $hoptions (eq $ooptions)))
          (export "future-incoming-response" (type $hfuture (eq $ofuture)))
          (export "handle" (func
            (param "request" (own $hrequest)) (param "options" (option (own $hoptions)))
            (result (result (own $hfuture) (error {code.replace("$", "$h")})))))))
        (core module $memory {ALLOCATOR} (data (i32.const 512) "behind.example"))
        (core instance $memory (instantiate $memory))
        (core func $set (canon lower (func $types "[method]outgoing-request.set-authority")
          (memory (core memory $memory "memory"))))
        (core func $handle (canon lower (func $next "handle")
          (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
        (core module $main
          (import "" "set" (func $set (param i32 i32 i32 i32) (result i32)))
          (import "" "handle" (func $handle (param i32 i32 i32 i32)))
          (func (export "handle") (param i32 i32 i32) (result i32)
            (drop (call $set (local.get 0) (i32.const 1) (i32.const 512) (i32.const 14)))
            (call $handle (local.get 0) (local.get 1) (local.get 2) (i32.const 256))
            (i32.const 256)))
        (core instance $main (instantiate $main (with "" (instance
          (export "set" (func $set)) (export "handle" (func $handle))))))
        (func $rewritten
          (param "request" (own $request)) (param "options" (option (own $options)))
          (result (result (own $future) (error {code})))
          (canon lift (core func $main "handle")
            (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
        (instance $handler (export "handle" (func $rewritten)))
        (export "wasi:http/outgoing-handler@0.2.3" (instance $handler)))
    """)


REWRITES = _rewriting()
"""Sends on whatever it is asked to send, to ``behind.example``."""

_PASSES_ON = """
    (import "wasi:http/types@0.2.3" (instance $types
      (export "incoming-request" (type $request (sub resource)))
      (export "incoming-body" (type $body (sub resource)))
      (export "response-outparam" (type $out (sub resource)))
      (export "[method]incoming-request.path-with-query" (func
        (param "self" (borrow $request)) (result (option string))))
      (export "[method]incoming-request.consume" (func
        (param "self" (borrow $request)) (result (result (own $body)))))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $out))
    (import "wasi:http/incoming-handler@0.2.3" (instance $next
      (alias outer 1 $request (type $orequest))
      (alias outer 1 $out (type $oout))
      (export "incoming-request" (type $hrequest (eq $orequest)))
      (export "response-outparam" (type $hout (eq $oout)))
      (export "handle" (func
        (param "request" (own $hrequest)) (param "response-out" (own $hout))))))
    (core module $memory (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 512)))
    (core instance $memory (instantiate $memory))
    (core func $path (canon lower (func $types "[method]incoming-request.path-with-query")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $consume (canon lower (func $types "[method]incoming-request.consume")
      (memory (core memory $memory "memory"))))
    (core func $handle (canon lower (func $next "handle")))
    (core module $main
      (import "" "memory" (memory 1))
      (import "" "path" (func $path (param i32 i32)))
      (import "" "consume" (func $consume (param i32 i32)))
      (import "" "handle" (func $handle (param i32 i32)))
      (func (export "handle") (param i32 i32)
        (call $path (local.get 0) (i32.const 64))
        (if (i32.eq (i32.load8_u (i32.const 513)) (i32.const 33))
          (then (call $consume (local.get 0) (i32.const 64))))
        (if (i32.eq (i32.load8_u (i32.const 513)) (i32.const 63)) (then return))
        (call $handle (local.get 0) (local.get 1))))
    (core instance $main (instantiate $main (with "" (instance
      (export "memory" (memory $memory "memory")) (export "path" (func $path))
      (export "consume" (func $consume)) (export "handle" (func $handle))))))
    (func $pass-on (param "request" (own $request)) (param "response-out" (own $out))
      (canon lift (core func $main "handle")))
    (instance $handler (export "handle" (func $pass-on)))
    (export "wasi:http/incoming-handler@0.2.3" (instance $handler))
"""

PASSES_ON = assemble(f"(component {_PASSES_ON})")
"""Passes requests on; those to ``/!`` after it has taken their bodies, those to ``/?`` never."""


def _composed() -> bytes:
    types = _Types()
    code = types.name(ERROR_CODE)
    aliases = "\n".join(f'(alias export $types "{each}" (type ${each}))' for each in types.named)
    exported = f"""
      {types.text}
      (export "fields" (type $fields (sub resource)))
      (export "incoming-request" (type $request (sub resource)))
      (export "incoming-body" (type $body (sub resource)))
      (export "outgoing-response" (type $response (sub resource)))
      (export "response-outparam" (type $out (sub resource)))
      (export "[method]incoming-request.path-with-query" (func
        (param "self" (borrow $request)) (result (option string))))
      (export "[method]incoming-request.consume" (func
        (param "self" (borrow $request)) (result (result (own $body)))))
      (export "[constructor]fields" (func (result (own $fields))))
      (export "[constructor]outgoing-response" (func
        (param "headers" (own $fields)) (result (own $response))))
      (export "[static]response-outparam.set" (func
        (param "param" (own $out))
        (param "response" (result (own $response) (error {code})))))"""
    return assemble(f"""
      (component
        (import "wasi:http/types@0.2.3" (instance $types {exported}))
        (component $gate {_PASSES_ON})
        (component $site
          (import "wasi:http/types@0.2.3" (instance $types {exported}))
          {aliases}
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          (core module $memory {ALLOCATOR})
          (core instance $memory (instantiate $memory))
          (core func $fields (canon lower (func $types "[constructor]fields")))
          (core func $response (canon lower (func $types "[constructor]outgoing-response")))
          (core func $set (canon lower (func $types "[static]response-outparam.set")
            (memory (core memory $memory "memory"))))
          (core module $main
            (import "" "fields" (func $fields (result i32)))
            (import "" "response" (func $response (param i32) (result i32)))
            (import "" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
            (func (export "handle") (param i32 i32)
              (call $set (local.get 1) (i32.const 0) (call $response (call $fields))
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0))))
          (core instance $main (instantiate $main (with "" (instance
            (export "fields" (func $fields)) (export "response" (func $response))
            (export "set" (func $set))))))
          (func $answer (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $main "handle")))
          (instance $handler (export "handle" (func $answer)))
          (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))
        (instance $site (instantiate $site
          (with "wasi:http/types@0.2.3" (instance $types))))
        (alias export $site "wasi:http/incoming-handler@0.2.3" (instance $next))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (component $shape
          (import "incoming-request" (type $request (sub resource)))
          (import "response-outparam" (type $out (sub resource)))
          (import "handle" (func $handle
            (param "request" (own $request)) (param "response-out" (own $out))))
          (export $r "incoming-request" (type $request))
          (export $o "response-outparam" (type $out))
          (export "handle" (func $handle) (func
            (param "request" (own $r)) (param "response-out" (own $o)))))
        (instance $whole (instantiate $shape
          (with "incoming-request" (type $request)) (with "response-outparam" (type $out))
          (with "handle" (func $next "handle"))))
        (instance $gate (instantiate $gate
          (with "wasi:http/types@0.2.3" (instance $types))
          (with "wasi:http/incoming-handler@0.2.3" (instance $whole))))
        (export "wasi:http/incoming-handler@0.2.3"
          (instance $gate "wasi:http/incoming-handler@0.2.3")))
    """)


COMPOSED = _composed()
"""``PASSES_ON`` in front of another component, which answers with status 200, in one."""

KEEPS_INSIDE = assemble("""
  (component
    (component $store
      (type $inner (resource (rep i32)))
      (core func $new (canon resource.new $inner))
      (core module $main
        (import "" "new" (func $new (param i32) (result i32)))
        (func (export "open") (param i32) (result i32)
          (call $new (i32.mul (local.get 0) (i32.const 10))))
        (func (export "size") (param i32) (result i32) (local.get 0)))
      (core instance $main (instantiate $main
        (with "" (instance (export "new" (func $new))))))
      (func $open (param "seed" u32) (result (own $inner))
        (canon lift (core func $main "open")))
      (func $size (param "self" (borrow $inner)) (result u32)
        (canon lift (core func $main "size")))
      (component $shape
        (import "bucket" (type $inner (sub resource)))
        (import "open" (func $open (param "seed" u32) (result (own $inner))))
        (import "size" (func $size (param "self" (borrow $inner)) (result u32)))
        (export $bucket "bucket" (type $inner))
        (export "open" (func $open) (func (param "seed" u32) (result (own $bucket))))
        (export "[method]bucket.size" (func $size)
          (func (param "self" (borrow $bucket)) (result u32))))
      (instance $store (instantiate $shape (with "bucket" (type $inner))
        (with "open" (func $open)) (with "size" (func $size))))
      (export "wasi:keyvalue/store@0.2.0-draft2" (instance $store)))
    (component $user
      (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
        (export "bucket" (type $bucket (sub resource)))
        (export "open" (func (param "seed" u32) (result (own $bucket))))
        (export "[method]bucket.size" (func (param "self" (borrow $bucket)) (result u32)))))
      (alias export $store "bucket" (type $bucket))
      (core func $open (canon lower (func $store "open")))
      (core func $size (canon lower (func $store "[method]bucket.size")))
      (core func $drop (canon resource.drop $bucket))
      (core module $main
        (import "" "open" (func $open (param i32) (result i32)))
        (import "" "size" (func $size (param i32) (result i32)))
        (import "" "drop" (func $drop (param i32)))
        (func (export "measure") (param i32) (result i32) (local $bucket i32)
          (local.set $bucket (call $open (local.get 0)))
          (call $size (local.get $bucket))
          (call $drop (local.get $bucket))))
      (core instance $main (instantiate $main (with "" (instance
        (export "open" (func $open)) (export "size" (func $size))
        (export "drop" (func $drop))))))
      (func (export "measure") (param "seed" u32) (result u32)
        (canon lift (core func $main "measure"))))
    (instance $store (instantiate $store))
    (instance $user (instantiate $user
      (with "wasi:keyvalue/store@0.2.0-draft2"
        (instance $store "wasi:keyvalue/store@0.2.0-draft2"))))
    (export "measure" (func $user "measure")))
""")
"""A component and the store it uses, in one: buckets pass between the two, and never leave."""

GUESTS = Path(__file__).parents[1] / "guests"


def guest(name: str) -> bytes:
    """A component of ``tests/guests``, made with a toolchain of its own; its README says how."""
    return next((GUESTS / name).glob("*.wasm")).read_bytes()
