//! An HTTP handler for tests: each path does one thing, well or badly.

use wasi::clocks::monotonic_clock;
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasi::io::streams::StreamError;

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/hello" => answer(out, 200, &[], b"hello from a component\n"),
            "/echo" => {
                let body = read(&request);
                let kind = request.headers().get("content-type");
                let kind = kind.first().cloned().unwrap_or_default();
                answer(out, 200, &[("content-type", &kind)], &body)
            }
            "/describe" => {
                let text = format!(
                    "{} {} {:?} {:?}",
                    method(&request.method()),
                    request.path_with_query().unwrap_or_default(),
                    request.scheme(),
                    request.authority(),
                );
                answer(out, 201, &[("x-lattice", b"yes")], text.as_bytes())
            }
            "/sleep" => {
                let milliseconds: u64 = query.parse().unwrap_or(0);
                monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
                answer(out, 200, &[], b"slept")
            }
            "/large" => {
                let size: usize = query.parse().unwrap_or(0);
                answer(out, 200, &[], &vec![b'x'; size])
            }
            "/log" => {
                println!("a line from {}", query);
                eprintln!("a complaint");
                answer(out, 200, &[], b"logged")
            }
            "/trailers" => {
                let response = OutgoingResponse::new(Fields::new());
                let body = response.body().unwrap();
                ResponseOutparam::set(out, Ok(response));
                write(&body, b"with trailers");
                let trailers = Fields::new();
                trailers.append("x-sum", b"13").unwrap();
                OutgoingBody::finish(body, Some(trailers)).unwrap();
            }
            "/too-much" => {
                let body = sized(out, "5");
                write(&body, b"hello and more");
            }
            "/too-little" => {
                let body = sized(out, "500");
                write(&body, b"hello");
                let finished = OutgoingBody::finish(body, None);
                println!("finish: {}", finished.is_err());
            }
            "/never" => drop(out),
            "/forget" => {
                // Returned without a word: neither set nor dropped.
                std::mem::forget(out);
            }
            "/refuse" => ResponseOutparam::set(
                out,
                Err(wasi::http::types::ErrorCode::InternalError(Some("it hurts".into()))),
            ),
            "/exit" => std::process::exit(3),
            "/panic" => panic!("on purpose"),
            "/wait-for-nothing" => {
                wasi::io::poll::poll(&[]);
            }
            _ => answer(out, 404, &[], b"no such path"),
        }
    }
}

fn method(method: &Method) -> String {
    match method {
        Method::Get => "GET".into(),
        Method::Post => "POST".into(),
        Method::Other(other) => other.clone(),
        _ => "?".into(),
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut content = Vec::new();
    loop {
        match stream.blocking_read(16 * 1024) {
            Ok(piece) => content.extend(piece),
            Err(StreamError::Closed) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    drop(stream);
    IncomingBody::finish(body);
    content
}

fn sized(out: ResponseOutparam, length: &str) -> OutgoingBody {
    let headers = Fields::new();
    headers.append("content-length", length.as_bytes()).unwrap();
    let response = OutgoingResponse::new(headers);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, status: u16, headers: &[(&str, &[u8])], content: &[u8]) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value).unwrap();
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    write(&body, content);
    OutgoingBody::finish(body, None).unwrap();
}

fn write(body: &OutgoingBody, content: &[u8]) {
    let stream = body.write().unwrap();
    for piece in content.chunks(4096) {
        stream.blocking_write_and_flush(piece).unwrap();
    }
}

wasi::http::proxy::export!(Handler);
