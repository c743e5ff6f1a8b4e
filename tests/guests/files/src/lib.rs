//! Runs a script of calls of `wasi:filesystem` and `wasi:io`, a line each, and says what came of
//! each in a line. `std-...` goes through Rust's own library instead.

use std::collections::HashMap;

use wasi::filesystem::preopens::get_directories;
use wasi::filesystem::types::{
    filesystem_error_code, Advice, Datetime, Descriptor, DescriptorFlags, DescriptorStat,
    DirectoryEntryStream, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

wit_bindgen::generate!({ world: "files", path: "wit" });

struct Files;

export!(Files);

impl Guest for Files {
    fn run(script: String) -> String {
        // An instance that is kept has what it had.
        let held = unsafe { &mut *std::ptr::addr_of_mut!(HELD) };
        let held = held.get_or_insert_with(HashMap::new);
        let lines = script.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            step(held, &words).unwrap_or_else(|error| format!("error {error}"))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

static mut HELD: Option<HashMap<String, Thing>> = None;

enum Thing {
    Descriptor(Descriptor),
    Input(InputStream),
    Output(OutputStream),
    Entries(DirectoryEntryStream),
}

struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Failure(code.name().into())
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Failure(match error {
            StreamError::Closed => "closed".into(),
            StreamError::LastOperationFailed(error) => {
                format!("failed {}", filesystem_error_code(&error).map_or("?", |code| code.name()))
            }
        })
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure(format!("{:?} {:?}", error.kind(), error.raw_os_error()))
    }
}

type Held = HashMap<String, Thing>;

fn descriptor<'a>(held: &'a Held, name: &str) -> &'a Descriptor {
    let Some(Thing::Descriptor(found)) = held.get(name) else { panic!("no descriptor {name}") };
    found
}

fn input<'a>(held: &'a Held, name: &str) -> &'a InputStream {
    let Some(Thing::Input(found)) = held.get(name) else { panic!("no input {name}") };
    found
}

fn output<'a>(held: &'a Held, name: &str) -> &'a OutputStream {
    let Some(Thing::Output(found)) = held.get(name) else { panic!("no output {name}") };
    found
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lookup(word: &str) -> PathFlags {
    if word.contains('f') { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() }
}

fn how(word: &str) -> OpenFlags {
    word.chars().fold(OpenFlags::empty(), |flags, letter| {
        flags
            | match letter {
                'c' => OpenFlags::CREATE,
                'd' => OpenFlags::DIRECTORY,
                'x' => OpenFlags::EXCLUSIVE,
                't' => OpenFlags::TRUNCATE,
                _ => OpenFlags::empty(),
            }
    })
}

fn flags(word: &str) -> DescriptorFlags {
    word.chars().fold(DescriptorFlags::empty(), |flags, letter| {
        flags
            | match letter {
                'r' => DescriptorFlags::READ,
                'w' => DescriptorFlags::WRITE,
                'm' => DescriptorFlags::MUTATE_DIRECTORY,
                's' => DescriptorFlags::FILE_INTEGRITY_SYNC,
                'y' => DescriptorFlags::DATA_INTEGRITY_SYNC,
                'q' => DescriptorFlags::REQUESTED_WRITE_SYNC,
                _ => DescriptorFlags::empty(),
            }
    })
}

fn time(word: &str) -> NewTimestamp {
    match word {
        "-" => NewTimestamp::NoChange,
        "now" => NewTimestamp::Now,
        _ => {
            let (seconds, nanoseconds) = word.split_once('.').unwrap();
            NewTimestamp::Timestamp(Datetime {
                seconds: number(seconds),
                nanoseconds: number(nanoseconds) as u32,
            })
        }
    }
}

fn facts(stat: DescriptorStat) -> String {
    let time = |time: Option<Datetime>| {
        time.map_or("none".into(), |time| format!("{}.{}", time.seconds, time.nanoseconds))
    };
    format!(
        "{:?} {} {} {} {}",
        stat.type_,
        stat.link_count,
        stat.size,
        time(stat.data_access_timestamp),
        time(stat.data_modification_timestamp),
    )
}

fn step(held: &mut Held, words: &[&str]) -> Result<String, Failure> {
    let word = |index: usize| words.get(index).copied().unwrap_or("");
    let of = |index: usize| descriptor(held, word(index));
    let done = || Ok("ok".to_string());
    match word(0) {
        "directories" => {
            let mut names = Vec::new();
            for (index, (directory, name)) in get_directories().into_iter().enumerate() {
                held.insert(index.to_string(), Thing::Descriptor(directory));
                names.push(name);
            }
            Ok(names.join(" "))
        }
        "open" => {
            let (found, path) = (of(2), word(3));
            let opened = found.open_at(lookup(word(4)), path, how(word(5)), flags(word(6)))?;
            held.insert(word(1).into(), Thing::Descriptor(opened));
            done()
        }
        // As often as it goes.
        "open-all" => {
            let mut all = Vec::new();
            loop {
                match of(1).open_at(lookup(""), word(2), how(""), flags("r")) {
                    Ok(opened) => all.push(opened),
                    Err(error) => return Ok(format!("{} {}", all.len(), error.name())),
                }
            }
        }
        // Open and close, so many times.
        "churn" => {
            for _ in 0..number(word(3)) {
                let opened = of(1).open_at(lookup(""), word(2), how(""), flags("r"))?;
                let stream = opened.read_via_stream(0)?;
                drop(opened);
                stream.blocking_read(1)?;
                of(1).read_directory()?.read_directory_entry()?;
            }
            done()
        }
        "read" => {
            let (content, end) = of(1).read(number(word(2)), number(word(3)))?;
            Ok(format!("{} {end}", text(&content)))
        }
        "write" => Ok(of(1).write(word(3).as_bytes(), number(word(2)))?.to_string()),
        "write-many" => Ok(of(1).write(&vec![b'x'; number(word(2)) as usize], 0)?.to_string()),
        "input" => {
            let stream = of(2).read_via_stream(number(word(3)))?;
            held.insert(word(1).into(), Thing::Input(stream));
            done()
        }
        "output" => {
            let stream = of(2).write_via_stream(number(word(3)))?;
            held.insert(word(1).into(), Thing::Output(stream));
            done()
        }
        "append" => {
            let stream = of(2).append_via_stream()?;
            held.insert(word(1).into(), Thing::Output(stream));
            done()
        }
        "stream-read" => Ok(text(&input(held, word(1)).read(number(word(2)))?)),
        "stream-blocking-read" => Ok(text(&input(held, word(1)).blocking_read(number(word(2)))?)),
        "stream-skip" => Ok(input(held, word(1)).skip(number(word(2)))?.to_string()),
        "stream-blocking-skip" => {
            Ok(input(held, word(1)).blocking_skip(number(word(2)))?.to_string())
        }
        "stream-write" => {
            output(held, word(1)).write(word(2).as_bytes())?;
            done()
        }
        "stream-write-many" => {
            output(held, word(1)).write(&vec![b'x'; number(word(2)) as usize])?;
            done()
        }
        "stream-blocking-write" => {
            output(held, word(1)).blocking_write_and_flush(word(2).as_bytes())?;
            done()
        }
        "stream-zeroes" => {
            output(held, word(1)).write_zeroes(number(word(2)))?;
            done()
        }
        "stream-flush" => {
            output(held, word(1)).blocking_flush()?;
            done()
        }
        "stream-room" => Ok(output(held, word(1)).check_write()?.to_string()),
        "stream-splice" => {
            let (to, from) = (output(held, word(1)), input(held, word(2)));
            Ok(to.splice(from, number(word(3)))?.to_string())
        }
        "stream-blocking-splice" => {
            let (to, from) = (output(held, word(1)), input(held, word(2)));
            Ok(to.blocking_splice(from, number(word(3)))?.to_string())
        }
        "stdout-splice" => {
            let from = input(held, word(1));
            Ok(wasi::cli::stdout::get_stdout().splice(from, number(word(2)))?.to_string())
        }
        "stream-ready" => {
            let ready = match &held[word(1)] {
                Thing::Input(stream) => stream.subscribe(),
                Thing::Output(stream) => stream.subscribe(),
                _ => panic!("no stream"),
            };
            ready.block();
            Ok(ready.ready().to_string())
        }
        "list" => {
            let entries = of(1).read_directory()?;
            let mut names = Vec::new();
            loop {
                match entries.read_directory_entry() {
                    Ok(Some(entry)) => names.push(format!("{}:{:?}", entry.name, entry.type_)),
                    Ok(None) => break,
                    Err(error) => names.push(format!("({})", error.name())),
                }
            }
            names.sort();
            Ok(names.join(" "))
        }
        "entries" => {
            let entries = of(2).read_directory()?;
            held.insert(word(1).into(), Thing::Entries(entries));
            done()
        }
        "entry" => {
            let Some(Thing::Entries(entries)) = held.get(word(1)) else { panic!("no entries") };
            Ok(entries.read_directory_entry()?.map_or("none".into(), |entry| entry.name))
        }
        "stat" => Ok(facts(of(1).stat()?)),
        "stat-at" => Ok(facts(of(1).stat_at(lookup(word(3)), word(2))?)),
        "make-directory" => of(1).create_directory_at(word(2)).map_err(Into::into).and(done()),
        "remove-directory" => of(1).remove_directory_at(word(2)).map_err(Into::into).and(done()),
        "unlink" => of(1).unlink_file_at(word(2)).map_err(Into::into).and(done()),
        "rename" => {
            of(1).rename_at(word(2), of(3), word(4))?;
            done()
        }
        "link" => {
            of(1).link_at(lookup(word(5)), word(2), of(3), word(4))?;
            done()
        }
        "symlink" => of(1).symlink_at(word(2), word(3)).map_err(Into::into).and(done()),
        "readlink" => Ok(of(1).readlink_at(word(2))?),
        "set-size" => of(1).set_size(number(word(2))).map_err(Into::into).and(done()),
        "set-times" => of(1).set_times(time(word(2)), time(word(3))).map_err(Into::into).and(done()),
        "set-times-at" => {
            of(1).set_times_at(lookup(word(5)), word(2), time(word(3)), time(word(4)))?;
            done()
        }
        "flags" => Ok(format!("{:?}", of(1).get_flags()?)),
        "type" => Ok(format!("{:?}", of(1).get_type()?)),
        "sync" => of(1).sync().map_err(Into::into).and(done()),
        "sync-data" => of(1).sync_data().map_err(Into::into).and(done()),
        "advise" => {
            let advice = Advice::WillNeed;
            of(1).advise(number(word(2)), number(word(3)), advice).map_err(Into::into).and(done())
        }
        "is-same" => Ok(of(1).is_same_object(of(2)).to_string()),
        "hash" => {
            let hash = of(1).metadata_hash()?;
            Ok(format!("{:x}{:x}", hash.upper, hash.lower))
        }
        "hash-at" => {
            let hash = of(1).metadata_hash_at(lookup(word(3)), word(2))?;
            Ok(format!("{:x}{:x}", hash.upper, hash.lower))
        }
        "drop" => {
            held.remove(word(1)).expect("a thing");
            done()
        }
        "std-read" => Ok(std::fs::read_to_string(word(1))?),
        "std-write" => {
            std::fs::write(word(1), word(2))?;
            done()
        }
        "std-append" => {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().append(true).open(word(1))?;
            file.write_all(word(2).as_bytes())?;
            file.sync_all()?;
            done()
        }
        "std-seek" => {
            use std::io::{Read, Seek, SeekFrom, Write};
            let mut file = std::fs::OpenOptions::new().read(true).write(true).open(word(1))?;
            file.seek(SeekFrom::Start(number(word(2))))?;
            file.write_all(word(3).as_bytes())?;
            file.seek(SeekFrom::Start(1))?;
            let mut rest = String::new();
            file.read_to_string(&mut rest)?;
            Ok(rest)
        }
        "std-list" => {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(word(1))? {
                let entry = entry?;
                let kind = if entry.file_type()?.is_dir() { "/" } else { "" };
                names.push(format!("{}{kind}", entry.file_name().to_string_lossy()));
            }
            names.sort();
            Ok(names.join(" "))
        }
        "std-make-directories" => {
            std::fs::create_dir_all(word(1))?;
            done()
        }
        "std-rename" => {
            std::fs::rename(word(1), word(2))?;
            done()
        }
        "std-remove-all" => {
            std::fs::remove_dir_all(word(1))?;
            done()
        }
        "std-facts" => {
            let facts = std::fs::metadata(word(1))?;
            Ok(format!("{} {} {}", facts.len(), facts.is_dir(), facts.is_file()))
        }
        "panic" => panic!("as asked"),
        other => panic!("no step {other}"),
    }
}
