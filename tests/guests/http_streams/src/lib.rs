//! Sends requests, and has bodies flow; each path does one thing, well or badly.
//!
//! The path's query is a row of numbers; the header `x-to` names the server that requests go to.

use wasi::clocks::monotonic_clock;
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasi::io::poll::{poll, Pollable};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let numbers: Vec<u64> = query.split(',').filter_map(|each| each.parse().ok()).collect();
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
        match path {
            // Several requests at a time, and their answers in the order in which they come.
            "/fetch" => {
                let futures: Vec<_> =
                    (0..number(0)).map(|each| begin(&request, &format!("/{each}"))).collect();
                answer(out, all(futures).join("\n").as_bytes());
            }
            "/relay" => {
                let content = read(&request);
                let outgoing = outgoing(&request, "/relayed");
                outgoing.set_method(&Method::Post).unwrap();
                let body = outgoing.body().unwrap();
                let options = RequestOptions::new();
                options.set_first_byte_timeout(Some(3_000_000_000)).unwrap();
                let future = outgoing_handler::handle(outgoing, Some(options)).unwrap();
                pour(&body.write().unwrap(), &content);
                let trailers = Fields::new();
                trailers.append("x-sum", content.len().to_string().as_bytes()).unwrap();
                OutgoingBody::finish(body, Some(trailers)).unwrap();
                answer(out, describe(future).as_bytes());
            }
            // Both bodies pass through it at the same time, as they come, with their trailers.
            "/proxy" => proxy(request, out),
            // Writes a line of the request's body when it has read the one before in the response.
            "/converse" => {
                let outgoing = outgoing(&request, "/echo");
                let body = outgoing.body().unwrap();
                let future = outgoing_handler::handle(outgoing, None).unwrap();
                let stream = body.write().unwrap();
                let mut said = Vec::new();
                let mut response = None;
                for each in 0..number(0) {
                    pour(&stream, format!("line {each}\n").as_bytes());
                    let (_, _, source) = response.get_or_insert_with(|| take(&future));
                    while said.iter().filter(|&&byte| byte == b'\n').count() <= each as usize {
                        said.extend(source.blocking_read(100).unwrap());
                    }
                }
                drop(stream);
                let trailers = Fields::new();
                trailers.append("x-lines", number(0).to_string().as_bytes()).unwrap();
                OutgoingBody::finish(body, Some(trailers)).unwrap();
                let (_, body, source) = response.unwrap();
                said.extend(each_piece(&source, |_| ()).into_bytes());
                drop(source);
                let trailers = IncomingBody::finish(body);
                trailers.subscribe().block();
                let trailers = trailers.get().unwrap().unwrap().unwrap();
                for (name, value) in trailers.map(|each| each.entries()).unwrap_or_default() {
                    said.extend(format!(" {name}={}", String::from_utf8(value).unwrap()).bytes());
                }
                answer(out, &said);
            }
            // A request of so many bytes, whose content-length is the second number if there is one.
            "/pour-up" => {
                let (body, future) = open_up(&request, numbers.get(1));
                let stream = body.write().unwrap();
                let poured = try_pour(&stream, number(0));
                drop(stream);
                let finished = OutgoingBody::finish(body, None);
                let outcome = describe(future);
                answer(out, format!("{poured:?} {finished:?} {outcome}").as_bytes());
            }
            // As much, and then what ends it before its end, when the response has begun if need be.
            "/pour-up-and-drop" | "/pour-up-and-panic" | "/pour-up-and-leave" => {
                let (body, future) = open_up(&request, None);
                let stream = body.write().unwrap();
                pour_bytes(&stream, number(0));
                drop(stream);
                let response = (number(1) > 0).then(|| take(&future));
                match path {
                    "/pour-up-and-panic" => {
                        sleep(20);
                        panic!("in the middle");
                    }
                    "/pour-up-and-drop" => drop(body),
                    _ => {
                        sleep(20);
                        return answer(out, b"left");
                    }
                }
                let outcome = match response {
                    Some((_, _, source)) => each_piece(&source, |_| ()),
                    None => describe(future),
                };
                answer(out, outcome.as_bytes());
            }
            // Takes so much of a response, and drops the rest: the body, or else all of it.
            "/drop-response" => {
                let future = begin(&request, "/dropped");
                future.subscribe().block();
                let response = future.get().unwrap().unwrap().unwrap();
                if number(0) > 0 {
                    let body = response.consume().unwrap();
                    body.stream().unwrap().blocking_read(number(0)).unwrap();
                    drop(body);
                }
                drop(response);
                sleep(20);
                answer(out, b"dropped");
            }
            "/drop-future" => {
                drop(begin(&request, "/dropped"));
                sleep(number(0));
                answer(out, b"dropped");
            }
            "/leave" => {
                std::mem::forget(begin(&request, "/left"));
                sleep(number(0));
                answer(out, b"left");
            }
            "/drop-body" => {
                let outgoing = outgoing(&request, "/unfinished");
                let body = outgoing.body().unwrap();
                let future = outgoing_handler::handle(outgoing, None).unwrap();
                drop(body);
                answer(out, describe(future).as_bytes());
            }
            "/short" => {
                let headers = Fields::from_list(&[("content-length".into(), b"9".into())]).unwrap();
                let outgoing = OutgoingRequest::new(headers);
                outgoing.set_authority(Some(&to(&request))).unwrap();
                let body = outgoing.body().unwrap();
                let future = outgoing_handler::handle(outgoing, None).unwrap();
                body.write().unwrap().blocking_write_and_flush(b"short").unwrap();
                let finished = OutgoingBody::finish(body, None);
                answer(out, format!("{finished:?} {}", describe(future)).as_bytes());
            }
            "/twice" => {
                let future = begin(&request, "/once");
                future.subscribe().block();
                drop(future.get());
                answer(out, format!("{:?}", future.get().map(|each| each.is_ok())).as_bytes());
            }
            // A line, and after so many milliseconds the next.
            "/tick" => {
                let body = open(out);
                let stream = body.write().unwrap();
                for each in 0..number(0) {
                    stream.blocking_write_and_flush(format!("tick {each}\n").as_bytes()).unwrap();
                    sleep(number(1));
                }
                drop(stream);
                OutgoingBody::finish(body, None).unwrap();
            }
            "/pour" => {
                let body = open(out);
                let stream = body.write().unwrap();
                let written = pour_bytes(&stream, number(0));
                drop(stream);
                println!("poured {written}");
                OutgoingBody::finish(body, None).unwrap();
            }
            "/pour-and-panic" => {
                let body = open(out);
                let stream = body.write().unwrap();
                pour_bytes(&stream, number(0));
                sleep(number(1));
                panic!("in the middle");
            }
            "/pour-and-forget" => {
                let body = open(out);
                let stream = body.write().unwrap();
                pour_bytes(&stream, number(0));
                sleep(number(1));
            }
            "/pour-for-ever" => {
                let body = open(out);
                let stream = body.write().unwrap();
                pour_bytes(&stream, u64::MAX);
            }
            // What the client gets is complete before the guest is done.
            "/go-on" => {
                answer(out, b"complete");
                sleep(number(0));
                println!("went on");
            }
            "/echo" => {
                let body = open(out);
                let stream = body.write().unwrap();
                let incoming = request.consume().unwrap();
                let source = incoming.stream().unwrap();
                each_piece(&source, |piece| pour(&stream, &piece));
                drop((source, stream));
                let trailers = IncomingBody::finish(incoming);
                trailers.subscribe().block();
                let trailers = trailers.get().unwrap().unwrap().unwrap();
                OutgoingBody::finish(body, trailers).unwrap();
            }
            // So many bytes a time, and so many milliseconds between.
            "/count" => {
                let incoming = request.consume().unwrap();
                let source = incoming.stream().unwrap();
                let mut count = 0;
                let outcome = each_piece(&source, |piece| {
                    count += piece.len();
                    if number(0) > 0 {
                        sleep(number(0));
                    }
                });
                answer(out, format!("{count} {outcome}").as_bytes());
            }
            "/read-nothing" => answer(out, b"read nothing"),
            _ => answer(out, b"no such path"),
        }
    }
}

fn to(request: &IncomingRequest) -> String {
    let named = request.headers().get("x-to");
    String::from_utf8(named.first().cloned().unwrap_or_default()).unwrap()
}

fn outgoing(request: &IncomingRequest, path: &str) -> OutgoingRequest {
    let outgoing = OutgoingRequest::new(Fields::new());
    outgoing.set_scheme(Some(&Scheme::Http)).unwrap();
    outgoing.set_authority(Some(&to(request))).unwrap();
    outgoing.set_path_with_query(Some(path)).unwrap();
    outgoing
}

type Response = (IncomingResponse, IncomingBody, InputStream);

fn take(future: &FutureIncomingResponse) -> Response {
    future.subscribe().block();
    let response = future.get().unwrap().unwrap().unwrap();
    let body = response.consume().unwrap();
    let source = body.stream().unwrap();
    (response, body, source)
}

fn open_up(
    request: &IncomingRequest,
    length: Option<&u64>,
) -> (OutgoingBody, FutureIncomingResponse) {
    let fields = Fields::new();
    if let Some(length) = length {
        fields.append("content-length", length.to_string().as_bytes()).unwrap();
    }
    let outgoing = OutgoingRequest::new(fields);
    outgoing.set_method(&Method::Post).unwrap();
    outgoing.set_scheme(Some(&Scheme::Http)).unwrap();
    outgoing.set_authority(Some(&to(request))).unwrap();
    outgoing.set_path_with_query(Some("/up")).unwrap();
    let body = outgoing.body().unwrap();
    (body, outgoing_handler::handle(outgoing, None).unwrap())
}

/// Gives how much was taken, and what ended it before all was.
fn try_pour(stream: &OutputStream, count: u64) -> Result<u64, String> {
    let piece = [b'x'; 4096];
    let mut left = count;
    while left > 0 {
        let size = left.min(piece.len() as u64);
        if stream.blocking_write_and_flush(&piece[..size as usize]).is_err() {
            return Err("no more is taken".into());
        }
        left -= size;
    }
    Ok(count)
}

/// One direction of a proxy.
struct Pipe {
    body: IncomingBody,
    source: InputStream,
    target: OutputStream,
    held: Vec<u8>,
    is_over: bool,
}

impl Pipe {
    fn new(body: IncomingBody, target: OutputStream) -> Pipe {
        let source = body.stream().unwrap();
        Pipe { body, source, target, held: Vec::new(), is_over: false }
    }

    fn pollable(&self) -> Pollable {
        if self.held.is_empty() {
            self.source.subscribe()
        } else {
            self.target.subscribe()
        }
    }

    fn go_on(&mut self) {
        if self.held.is_empty() {
            match self.source.read(64 * 1024) {
                Ok(piece) => self.held = piece,
                Err(_) => self.is_over = true,
            }
        }
        let room = self.target.check_write().unwrap() as usize;
        let rest = self.held.split_off(room.min(self.held.len()));
        if !self.held.is_empty() {
            self.target.write(&self.held).unwrap();
        }
        self.held = rest;
    }

    fn finish(self, target: OutgoingBody) {
        let Pipe { body, source, target: stream, .. } = self;
        drop((source, stream));
        let trailers = IncomingBody::finish(body);
        trailers.subscribe().block();
        OutgoingBody::finish(target, trailers.get().unwrap().unwrap().unwrap()).unwrap();
    }
}

fn proxy(request: IncomingRequest, out: ResponseOutparam) {
    let (sent, future) = open_up(&request, None);
    let mut up = Some((Pipe::new(request.consume().unwrap(), sent.write().unwrap()), sent));
    let mut down: Option<(Pipe, OutgoingBody)> = None;
    let mut out = Some(out);
    while up.is_some() || down.is_some() || out.is_some() {
        let mut pollables: Vec<_> =
            [&up, &down].into_iter().flatten().map(|each| each.0.pollable()).collect();
        pollables.extend(out.as_ref().map(|_| future.subscribe()));
        poll(&pollables.iter().collect::<Vec<_>>());
        drop(pollables);
        if out.is_some() {
            if let Some(response) = future.get() {
                let response = response.unwrap().unwrap();
                let body = open(out.take().unwrap());
                down = Some((Pipe::new(response.consume().unwrap(), body.write().unwrap()), body));
            }
        }
        for each in [&mut up, &mut down] {
            if let Some((pipe, _)) = each {
                pipe.go_on();
                if pipe.is_over {
                    let (pipe, target) = each.take().unwrap();
                    pipe.finish(target);
                }
            }
        }
    }
}

fn begin(request: &IncomingRequest, path: &str) -> FutureIncomingResponse {
    outgoing_handler::handle(outgoing(request, path), None).unwrap()
}

fn all(futures: Vec<FutureIncomingResponse>) -> Vec<String> {
    let mut waiting: Vec<_> = futures.into_iter().map(|each| (each.subscribe(), each)).collect();
    let mut came = Vec::new();
    while !waiting.is_empty() {
        let ready = poll(&waiting.iter().map(|(pollable, _)| pollable).collect::<Vec<_>>());
        for index in ready.into_iter().rev() {
            let (pollable, future) = waiting.remove(index as usize);
            drop(pollable);
            came.push(describe(future));
            println!("{}", came.last().unwrap());
        }
    }
    came
}

fn describe(future: FutureIncomingResponse) -> String {
    future.subscribe().block();
    match future.get().unwrap().unwrap() {
        Ok(response) => describe_response(response),
        Err(code) => format!("{code:?}"),
    }
}

fn describe_response(response: IncomingResponse) -> String {
    let status = response.status();
    let kind = response.headers().get("content-type");
    let body = response.consume().unwrap();
    let source = body.stream().unwrap();
    let mut content = Vec::new();
    let outcome = each_piece(&source, |piece| content.extend(piece));
    let text = if content.len() < 200 {
        String::from_utf8_lossy(&content).into_owned()
    } else {
        format!("{} bytes", content.len())
    };
    let kind = kind.first().map(|each| String::from_utf8_lossy(each).into_owned());
    format!("{status} {} {text} {outcome}", kind.unwrap_or_default())
}

/// Gives how it ended.
fn each_piece(source: &InputStream, mut take: impl FnMut(Vec<u8>)) -> String {
    loop {
        match source.blocking_read(64 * 1024) {
            Ok(piece) => take(piece),
            Err(StreamError::Closed) => return "whole".into(),
            Err(StreamError::LastOperationFailed(error)) => return error.to_debug_string(),
        }
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().unwrap();
    let mut content = Vec::new();
    each_piece(&body.stream().unwrap(), |piece| content.extend(piece));
    content
}

fn open(out: ResponseOutparam) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Writes as much as there is room for, and waits for more room.
fn pour(stream: &OutputStream, content: &[u8]) {
    let ready = stream.subscribe();
    let mut rest = content;
    while !rest.is_empty() {
        ready.block();
        let room = stream.check_write().unwrap() as usize;
        let (piece, after) = rest.split_at(room.min(rest.len()));
        stream.write(piece).unwrap();
        rest = after;
    }
    stream.blocking_flush().unwrap();
}

fn pour_bytes(stream: &OutputStream, count: u64) -> u64 {
    let piece = [b'x'; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let size = left.min(piece.len() as u64);
        pour(stream, &piece[..size as usize]);
        left -= size;
    }
    count - left
}

fn answer(out: ResponseOutparam, content: &[u8]) {
    let body = open(out);
    let stream = body.write().unwrap();
    for piece in content.chunks(4096) {
        stream.blocking_write_and_flush(piece).unwrap();
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn sleep(milliseconds: u64) {
    monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
}

wasi::http::proxy::export!(Handler);
