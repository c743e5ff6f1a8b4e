//! counter-component: counts the requests for each path, in a key-value store.
//!
//! The counter beside it, as a component: a request for /a/b increments the key "a:b" of the bucket
//! "default", and is answered with {"counter": N}. Which store that is, it neither knows nor cares.

mod web;

use web::wasi::keyvalue::atomics::increment;
use web::wasi::keyvalue::store::{Error, open};
use web::{Request, Response};

fn answer(request: Request) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD" | "POST") {
        // A 405 must name the methods that are allowed (RFC 9110, section 15.5.6).
        let mut response = json(405, "{\"error\": \"method not allowed\"}\n".into());
        response.headers.push(("allow".into(), b"GET, HEAD, POST".into()));
        return response;
    }
    match count(&key_of(&request.path)) {
        Ok(count) => json(200, format!("{{\"counter\": {count}}}\n")),
        Err(error) => json(503, format!("{{\"error\": {:?}}}\n", said(error))),
    }
}

fn count(key: &str) -> Result<u64, Error> {
    increment(&open("default")?, key, 1)
}

/// "/" counts as "counter", "/a/b" as "a:b": the colon is what people separate such keys with.
fn key_of(path: &str) -> String {
    match path.trim_start_matches('/') {
        "" => "counter".into(),
        path => path.replace('/', ":"),
    }
}

fn said(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no such store".into(),
        Error::AccessDenied => "access denied".into(),
        Error::Other(text) => text,
    }
}

fn json(status: u16, text: String) -> Response {
    let mut response = Response::text(status, text);
    response.headers = vec![("content-type".into(), b"application/json".into())];
    response
}
