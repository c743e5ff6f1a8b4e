//! HTTP for actors: requests and responses as plain values, over wasi:http.

wit_bindgen::generate!({ world: "actor", path: "wit", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

const READ_BYTES: u64 = 64 * 1024;

/// What a stream takes at a time, at the most, when it is to wait for room.
const WRITE_BYTES: usize = 4096;

/// A request, all of it.
#[allow(dead_code)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(status: u16, text: String) -> Self {
        let plain = ("content-type".into(), b"text/plain; charset=utf-8".into());
        Self { status, headers: vec![plain], body: text.into_bytes() }
    }
}

struct Actor;

export!(Actor);

impl Guest for Actor {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        send(crate::answer(received(request)), out);
    }
}

fn received(request: IncomingRequest) -> Request {
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let incoming = request.consume().expect("a body is taken once");
    Request {
        method: name_of(request.method()),
        path: path.into(),
        query: query.into(),
        headers: request.headers().entries(),
        body: read_all(incoming.stream().expect("its stream is taken once")),
    }
}

fn name_of(method: Method) -> String {
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    };
    name.into()
}

fn read_all(stream: InputStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(chunk) => body.extend(chunk),
            Err(StreamError::Closed) => return body,
            Err(StreamError::LastOperationFailed(error)) => panic!("{}", error.to_debug_string()),
        }
    }
}

fn send(response: Response, out: ResponseOutparam) {
    let fields = Fields::from_list(&response.headers).expect("headers are valid");
    let outgoing = OutgoingResponse::new(fields);
    outgoing.set_status_code(response.status).expect("the status is one of HTTP's");
    let body = outgoing.body().expect("a body is taken once");
    ResponseOutparam::set(out, Ok(outgoing));
    write_all(body.write().expect("its stream is taken once"), &response.body);
    // The client may be gone; it does not matter any more.
    let _ = OutgoingBody::finish(body, None);
}

fn write_all(stream: OutputStream, content: &[u8]) {
    for chunk in content.chunks(WRITE_BYTES) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
}
