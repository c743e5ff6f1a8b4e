//! Uses of blobs: in the order of the book, and in those that components have.

use crate::wasi::blobstore::blobstore;
use crate::wasi::blobstore::container::Container;
use crate::wasi::blobstore::types::{IncomingValue, ObjectId, OutgoingValue};
use crate::wasi::io::streams::{InputStream, OutputStream, StreamError};

pub fn exercise(what: &str, argument: &str) -> Result<String, String> {
    let size = argument.parse().unwrap_or(0);
    match what {
        "tour" => tour(),
        "names" => names(size),
        "write" => write("large", size),
        "write-body-first" => {
            let value = OutgoingValue::new_outgoing_value();
            let stream = value.outgoing_value_write_body().unwrap();
            fill(&stream, size)?;
            drop(stream);
            container()?.write_data("large", &value)?;
            OutgoingValue::finish(value)?;
            Ok(String::new())
        }
        "write-polled" => {
            let value = OutgoingValue::new_outgoing_value();
            let stream = value.outgoing_value_write_body().unwrap();
            container()?.write_data("large", &value)?;
            let mut at = 0;
            while at < size {
                match stream.check_write().map_err(said)? as usize {
                    0 => stream.subscribe().block(),
                    room => {
                        let count = room.min(size - at);
                        stream.write(&pattern(at, count)).map_err(said)?;
                        at += count;
                    }
                }
            }
            drop(stream);
            OutgoingValue::finish(value)?;
            Ok(String::new())
        }
        "write-unfinished" => {
            let (value, stream) = begun("large", size)?;
            drop(stream);
            drop(value);
            // What was left to be done comes before this.
            container()?.has_object("large").map(|there| there.to_string())
        }
        "write-dropped" => {
            let (value, stream) = begun("large", size)?;
            drop(value);
            drop(stream);
            container()?.has_object("large").map(|there| there.to_string())
        }
        "write-left" => {
            let (value, stream) = begun("large", size)?;
            std::mem::forget((value, stream));
            Ok(String::new())
        }
        "write-trap" => {
            let (_value, _stream) = begun("large", size)?;
            panic!()
        }
        "write-nowhere" => {
            let value = OutgoingValue::new_outgoing_value();
            let _ = value.outgoing_value_write_body().unwrap();
            OutgoingValue::finish(value).map(|()| String::new())
        }
        "write-twice" => {
            let value = OutgoingValue::new_outgoing_value();
            let container = container()?;
            container.write_data("one", &value)?;
            container.write_data("two", &value).map(|()| String::new())
        }
        "write-many" => {
            let mut values = vec![];
            loop {
                values.push(OutgoingValue::new_outgoing_value());
            }
        }
        "read" => {
            let (start, end) = range(argument);
            let value = container()?.get_data("large", start, end)?;
            let promised = value.size();
            let stream = IncomingValue::incoming_value_consume_async(value)?;
            let found = drain(&stream, start as usize)?;
            Ok(format!("{promised} {found}"))
        }
        "read-polled" => {
            let value = container()?.get_data("large", 0, u64::MAX)?;
            let stream = IncomingValue::incoming_value_consume_async(value)?;
            let mut found = 0;
            loop {
                match stream.read(1 << 20) {
                    Ok(bytes) if bytes.is_empty() => stream.subscribe().block(),
                    Ok(bytes) => found += bytes.len(),
                    Err(StreamError::Closed) => return Ok(found.to_string()),
                    Err(error) => return Err(said(error)),
                }
            }
        }
        "read-sync" => {
            let value = container()?.get_data("large", 0, u64::MAX)?;
            let bytes = IncomingValue::incoming_value_consume_sync(value)?;
            let whole = pattern(0, bytes.len()) == bytes;
            Ok(format!("{} {whole}", bytes.len()))
        }
        "read-many" => {
            let container = container()?;
            let mut values = vec![];
            loop {
                values.push(container.get_data("large", 0, u64::MAX)?);
            }
        }
        "read-early" => {
            for _ in 0..size {
                let value = container()?.get_data("large", 0, u64::MAX)?;
                let stream = IncomingValue::incoming_value_consume_async(value)?;
                while !stream.read(1 << 20).map_err(said)?.is_empty() {}
                // A part is on its way now.
            }
            Ok(String::new())
        }
        "copy" => {
            let container = container()?;
            let value = container.get_data("large", 0, u64::MAX)?;
            let mut left = value.size();
            let from = IncomingValue::incoming_value_consume_async(value)?;
            let value = OutgoingValue::new_outgoing_value();
            let stream = value.outgoing_value_write_body().unwrap();
            container.write_data("other", &value)?;
            while left > 0 {
                left -= stream.blocking_splice(&from, left).map_err(said)?;
            }
            drop(stream);
            OutgoingValue::finish(value)?;
            let info = container.object_info("other")?;
            Ok(info.size.to_string())
        }
        "replaced" => {
            write("large", size)?;
            let value = container()?.get_data("large", 0, u64::MAX)?;
            let stream = IncomingValue::incoming_value_consume_async(value)?;
            write("large", size)?;
            drain(&stream, 0).map(|found| found.to_string())
        }
        _ => Err("no such exercise".into()),
    }
}

fn container() -> Result<Container, String> {
    blobstore::create_container("things")
}

fn said(error: StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "closed".into(),
    }
}

fn range(text: &str) -> (u64, u64) {
    let (start, end) = text.split_once('-').unwrap_or(("0", ""));
    (start.parse().unwrap_or(0), end.parse().unwrap_or(u64::MAX))
}

/// Bytes that tell where they are.
fn pattern(at: usize, count: usize) -> Vec<u8> {
    (at..at + count).map(|place| (place % 251) as u8).collect()
}

fn fill(stream: &OutputStream, size: usize) -> Result<(), String> {
    let mut at = 0;
    while at < size {
        let count = (size - at).min(4096);
        stream.blocking_write_and_flush(&pattern(at, count)).map_err(said)?;
        at += count;
    }
    Ok(())
}

fn drain(stream: &InputStream, start: usize) -> Result<usize, String> {
    let mut found = 0;
    loop {
        match stream.blocking_read(1 << 20) {
            Ok(bytes) => {
                if pattern(start + found, bytes.len()) != bytes {
                    return Err(format!("not what was written, after {found} bytes"));
                }
                found += bytes.len();
            }
            Err(StreamError::Closed) => return Ok(found),
            Err(error) => return Err(said(error)),
        }
    }
}

fn begun(name: &str, size: usize) -> Result<(OutgoingValue, OutputStream), String> {
    let value = OutgoingValue::new_outgoing_value();
    let stream = value.outgoing_value_write_body().unwrap();
    container()?.write_data(name, &value)?;
    fill(&stream, size)?;
    Ok((value, stream))
}

fn write(name: &str, size: usize) -> Result<String, String> {
    let (value, stream) = begun(name, size)?;
    drop(stream);
    OutgoingValue::finish(value)?;
    Ok(String::new())
}

fn names(count: usize) -> Result<String, String> {
    let container = container()?;
    for number in 0..count {
        write(&format!("{number:04}"), 1)?;
    }
    let all = container.list_objects()?;
    let (first, over) = all.read_stream_object_names(2)?;
    let (skipped, still) = all.skip_stream_object_names(1)?;
    let (rest, end) = all.read_stream_object_names(u64::MAX)?;
    let (none, last) = all.read_stream_object_names(1)?;
    let mut every = [first.clone(), rest].concat();
    every.sort();
    every.dedup();
    container.delete_objects(&every)?;
    let (left, _) = container.list_objects()?.read_stream_object_names(9)?;
    container.clear()?;
    let (after, _) = container.list_objects()?.read_stream_object_names(9)?;
    Ok(format!(
        "{} {over}, {skipped} {still}, {} {end}, {} {last}, {} {}",
        first.len(),
        every.len(),
        none.len(),
        left.len(),
        after.len()
    ))
}

fn tour() -> Result<String, String> {
    let id = |object: &str| ObjectId { container: "things".into(), object: object.into() };
    let before = blobstore::container_exists("things")?;
    let none = blobstore::get_container("things").err().unwrap_or_default();
    let things = container()?;
    let info = things.info()?;
    let missing = things.get_data("a", 0, 1).err().unwrap_or_default();
    write("a", 5)?;
    blobstore::copy_object(&id("a"), &id("b"))?;
    blobstore::move_object(&id("b"), &id("c"))?;
    let there = ["a", "b", "c"].map(|name| things.has_object(name).unwrap());
    let object = things.object_info("c")?;
    let part = IncomingValue::incoming_value_consume_sync(things.get_data("c", 1, 3)?)?;
    let nothing = IncomingValue::incoming_value_consume_sync(things.get_data("c", 3, 1)?)?;
    things.delete_object("a")?;
    things.delete_object("a")?;
    let (names, end) = things.list_objects()?.read_stream_object_names(10)?;
    blobstore::delete_container("things")?;
    let after = blobstore::container_exists("things")?;
    Ok(format!(
        "{before} {none:?} {} {} {} {missing:?} {there:?} {} {} {} {} {part:?} {nothing:?} {names:?} \
         {end} {after}",
        things.name()?,
        info.name,
        info.created_at > 1_600_000_000,
        object.name,
        object.container,
        object.size,
        object.created_at >= info.created_at,
    ))
}
