//! hello-rust: answers every request with a greeting.
//!
//! GET / answers "Hello, world!", GET /ada answers "Hello, ada!".

mod web;

use web::{Request, Response};

fn answer(request: Request) -> Response {
    let name = match request.path.trim_start_matches('/') {
        "" => "world",
        name => name,
    };
    Response::text(200, format!("Hello, {name}!\n"))
}
