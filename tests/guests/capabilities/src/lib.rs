//! A component for tests that uses each capability a host has for components.

wit_bindgen::generate!({ world: "user", path: "wit", generate_all });

use wasi::config0_2_0_draft::runtime;
use wasi::config0_2_0_rc_1::store as config;
use wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use wasi::keyvalue0_2_0_draft2::{batch as batch2, store as store2};
use wasi::logging::logging::{log, Level};
use wasmcloud::bus::lattice::{set_link_name, CallTargetInterface};

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
            "binary" => {
                let bucket = store::open("").map_err(said)?;
                bucket.set("binary", &[0xff]).map_err(said)?;
                Ok(String::new())
            }
            "keys" => {
                let bucket = store::open("").map_err(said)?;
                bucket.list_keys(None).map_err(said)?;
                Ok(String::new())
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
            _ => Err("no such exercise".into()),
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

export!(User);
