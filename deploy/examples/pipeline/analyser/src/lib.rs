//! analyser: counts what is in a text, for whoever is linked to example:text/analyse.

use std::collections::HashMap;

wit_bindgen::generate!({ world: "actor", path: "wit", generate_all });

use exports::example::text::analyse::{Guest, Refusal, Report, Word};

const TEXT_BYTES_MAX: usize = 256 * 1024;

struct Actor;

export!(Actor);

impl Guest for Actor {
    fn analyse(text: String, most: u32) -> Result<Report, Refusal> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Refusal::TooLong(TEXT_BYTES_MAX as u32));
        }
        let words: Vec<String> = text
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        if words.is_empty() {
            return Err(Refusal::NoWords);
        }
        Ok(Report {
            words: words.len() as u32,
            sentences: sentences(&text),
            common: most_common(words, most as usize),
        })
    }
}

/// How many stretches of text have a word in them and end as sentences do, or with the text.
fn sentences(text: &str) -> u32 {
    text.split(['.', '!', '?'])
        .filter(|sentence| sentence.contains(char::is_alphanumeric))
        .count() as u32
}

fn most_common(words: Vec<String>, most: usize) -> Vec<Word> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word).or_insert(0) += 1;
    }
    let mut common: Vec<Word> =
        counts.into_iter().map(|(text, count)| Word { text, count }).collect();
    common.sort_by(|left, right| right.count.cmp(&left.count).then(left.text.cmp(&right.text)));
    common.truncate(most);
    common
}
