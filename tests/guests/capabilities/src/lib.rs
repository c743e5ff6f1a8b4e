//! A component for tests that uses each capability a host has for components.

mod blobs;
mod messages;
mod sockets;

wit_bindgen::generate!({ world: "user", path: "wit", generate_all });

use wasi::config0_2_0_draft::runtime;
use wasi::config0_2_0_rc_1::store as config;
use wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use wasi::keyvalue0_2_0_draft2::{atomics as atomics2, batch as batch2, store as store2};
use wasi::logging::logging::{log, Level};
use wasmcloud::bus1_0_0::lattice::{set_link_name, CallTargetInterface};
use wasmcloud::bus2_0_1::lattice as lattice2;
use wasmcloud::secrets::{reveal::reveal, store as secrets};

struct User;

impl Guest for User {
    fn exercise(what: String) -> Result<String, String> {
        let (what, argument) = what.split_once(' ').unwrap_or((&what, ""));
        match what {
            "store" => in_store(argument).map_err(said),
            "link" => {
                let target = CallTargetInterface::new("wasi", "keyvalue", "store");
                set_link_name(argument, vec![target]);
                in_store("").map_err(said)
            }
            "link2" => {
                let target = lattice2::CallTargetInterface::new("wasi", "keyvalue", "store");
                lattice2::set_link_name(argument, vec![target])?;
                in_store("").map_err(said)
            }
            "secret" => {
                let secret = secrets::get(argument).map_err(|error| format!("{error:?}"))?;
                Ok(format!("{:?}", reveal(&secret)))
            }
            "sockets" => Ok(sockets::tour()),
            "binary" => {
                let bucket = store::open("").map_err(said)?;
                bucket.set("binary", &[0xff, 0, 0xc1]).map_err(said)?;
                let value = bucket.get("binary").map_err(said)?;
                Ok(format!("{value:?}"))
            }
            "large" => {
                let bucket = store::open("").map_err(said)?;
                let value = vec![0xff; argument.parse().unwrap()];
                bucket.set("large", &value).map_err(said)?;
                let found = bucket.get("large").map_err(said)?;
                Ok(format!("{}", found == Some(value)))
            }
            "keys" => in_keys(argument.parse().unwrap()).map_err(said),
            "keys2" => in_keys2(argument.parse().unwrap()).map_err(|error| format!("{error:?}")),
            "cursor" => {
                let bucket = store::open("").map_err(said)?;
                let found = bucket.list_keys(Some(argument.parse().unwrap())).map_err(said)?;
                Ok(format!("{:?}", found.keys))
            }
            "increment2" => {
                let bucket = store2::open("").map_err(|error| format!("{error:?}"))?;
                let value = atomics2::increment(&bucket, "count", argument.parse().unwrap());
                value.map(|value| value.to_string()).map_err(|error| format!("{error:?}"))
            }
            "swap" => in_swap().map_err(|error| format!("{error:?}")),
            "append" => append(argument).map_err(|error| format!("{error:?}")),
            "many" => {
                let bucket = store2::open("").map_err(|error| format!("{error:?}"))?;
                let keys: Vec<_> = (0..argument.parse().unwrap()).map(|n| n.to_string()).collect();
                let found = batch2::get_many(&bucket, &keys);
                found.map(|found| format!("{}", found.len())).map_err(|error| format!("{error:?}"))
            }
            "increment" => {
                let bucket = store::open("").map_err(said)?;
                let value = atomics::increment(&bucket, "count", argument.parse().unwrap());
                value.map(|value| value.to_string()).map_err(said)
            }
            "batch" => in_batch().map_err(said),
            "batch2" => {
                let bucket = store2::open("").map_err(|error| format!("{error:?}"))?;
                bucket.set("a", b"1").map_err(|error| format!("{error:?}"))?;
                let keys = ["a".to_string(), "none".to_string()];
                let found = batch2::get_many(&bucket, &keys);
                found.map(|found| format!("{found:?}")).map_err(|error| format!("{error:?}"))
            }
            "config" => Ok(format!(
                "{:?} {:?} {:?} {:?}",
                runtime::get("colour").map_err(|error| format!("{error:?}"))?,
                config::get("none").map_err(|error| format!("{error:?}"))?,
                runtime::get_all().map_err(|error| format!("{error:?}"))?,
                config::get_all().map_err(|error| format!("{error:?}"))?,
            )),
            "log" => {
                log(Level::Warn, "here", argument);
                log(Level::Trace, "", argument);
                Ok(String::new())
            }
            "spin-store" => in_spin(argument).map_err(|error| format!("{error:?}")),
            "spin-variable" => {
                fermyon::spin::variables::get(argument).map_err(|error| format!("{error:?}"))
            }
            _ => match what.strip_prefix("blobs-") {
                Some(what) => blobs::exercise(what, argument),
                None => Err("no such exercise".into()),
            },
        }
    }
}

fn said(error: store::Error) -> String {
    format!("{error:?}")
}

fn in_store(identifier: &str) -> Result<String, store::Error> {
    let bucket = store::open(identifier)?;
    let before = bucket.exists("key")?;
    bucket.set("key", "välue".as_bytes())?;
    let value = bucket.get("key")?;
    bucket.delete("key")?;
    let after = bucket.get("key")?;
    let value = value.map(|value| String::from_utf8(value).unwrap());
    Ok(format!("{before} {value:?} {after:?}"))
}

/// Sets keys, and lists them page by page.
fn in_keys(count: u32) -> Result<String, store::Error> {
    let bucket = store::open("")?;
    for n in 0..count {
        bucket.set(&format!("k{n}"), b"")?;
    }
    let mut pages = Vec::new();
    let mut cursor = None;
    loop {
        let page = bucket.list_keys(cursor)?;
        pages.push(page.keys.join(" "));
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(pages.join("; "));
        }
    }
}

/// The same in the second draft.
fn in_keys2(count: u32) -> Result<String, store2::Error> {
    let bucket = store2::open("")?;
    for n in 0..count {
        bucket.set(&format!("k{n}"), b"")?;
    }
    let mut pages = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        pages.push(page.keys.join(" "));
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(pages.join("; "));
        }
    }
}

/// Swaps with a version that is over, and again with the one that it is told.
fn in_swap() -> Result<String, store2::Error> {
    let bucket = store2::open("")?;
    let nothing = atomics2::Cas::new(&bucket, "swapped")?;
    let before = nothing.current()?;
    bucket.set("swapped", b"a")?;
    let told = match atomics2::swap(nothing, b"lost") {
        Err(atomics2::CasError::CasFailed(now)) => now,
        Err(atomics2::CasError::StoreError(error)) => return Err(error),
        Ok(()) => return Ok("a swap won that had to lose".into()),
    };
    let now = told.current()?;
    let is_swapped = atomics2::swap(told, b"b").is_ok();
    let after = bucket.get("swapped")?;
    Ok(format!("{before:?} {now:?} {is_swapped} {after:?}"))
}

/// Appends to a value, again when somebody else was first.
fn append(text: &str) -> Result<String, store2::Error> {
    let bucket = store2::open("")?;
    let mut cas = atomics2::Cas::new(&bucket, "appended")?;
    loop {
        let mut value = cas.current()?.unwrap_or_default();
        value.extend_from_slice(text.as_bytes());
        match atomics2::swap(cas, &value) {
            Ok(()) => return Ok(String::from_utf8(value).unwrap()),
            Err(atomics2::CasError::CasFailed(now)) => cas = now,
            Err(atomics2::CasError::StoreError(error)) => return Err(error),
        }
    }
}

fn in_batch() -> Result<String, store::Error> {
    let bucket = store::open("default")?;
    let pairs = [("a".to_string(), b"1".to_vec()), ("b".to_string(), b"2".to_vec())];
    batch::set_many(&bucket, &pairs)?;
    let keys = ["a".to_string(), "none".to_string()];
    let found = batch::get_many(&bucket, &keys)?;
    batch::delete_many(&bucket, &keys)?;
    let left = batch::get_many(&bucket, &keys)?;
    Ok(format!("{found:?} {left:?}"))
}

fn in_spin(label: &str) -> Result<String, fermyon::spin::key_value::Error> {
    let store = fermyon::spin::key_value::Store::open(label)?;
    let before = store.exists("key")?;
    for number in 0..5 {
        store.set(&format!("key{number}"), &[0xff, number])?;
    }
    let value = store.get("key1")?;
    store.delete("key1")?;
    let after = store.get("key1")?;
    let mut keys = store.get_keys()?;
    keys.sort();
    Ok(format!("{before} {value:?} {after:?} {keys:?}"))
}

export!(User);

impl exports::wasi::keyvalue0_2_0_draft::watcher::Guest for User {
    fn on_set(bucket: store::Bucket, key: String, value: Vec<u8>) {
        bucket.set(&format!("seen {key}"), &value).unwrap();
    }

    fn on_delete(bucket: store::Bucket, key: String) {
        bucket.delete(&format!("seen {key}")).unwrap();
    }
}
