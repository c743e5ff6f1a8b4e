//! {{name}}: the interface example:greeter/greeter, whose one function greets.

wit_bindgen::generate!({ world: "actor", path: "wit" });

use exports::example::greeter::greeter::Guest;

struct Actor;

export!(Actor);

impl Guest for Actor {
    fn greet(name: String) -> String {
        format!("Hello, {name}!")
    }
}
