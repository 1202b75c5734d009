//! The order of the house: which crate knows which, what each file says of itself, what stands where.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// Each crate, and the others it may know, in tests as well.
const ROOMS: [(&str, &[&str]); 6] = [
    ("domain", &[]),
    ("commands", &["domain"]),
    ("projections", &["domain"]),
    ("federation", &["domain", "commands", "projections"]),
    ("gateway", &["domain", "commands", "projections", "federation"]),
    ("tests", &["domain", "commands", "projections", "federation", "gateway"]),
];

#[test]
fn a_crate_knows_only_whom_it_may() {
    for (room, may_know) in ROOMS {
        let manifest: toml::Table = read(&root().join(room).join("Cargo.toml")).parse().unwrap();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let known = manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten();
            for (name, _) in known.filter(|(name, _)| ROOMS.iter().any(|(room, _)| room == name)) {
                assert!(may_know.contains(&name.as_str()), "{room} knows {name} (in {table})");
            }
        }
    }
}

#[test]
fn every_room_is_known() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(members, ROOMS.iter().map(|(room, _)| *room).collect());
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{path} does not begin with what it is");
    }
}

#[test]
fn what_belongs_in_one_room_is_in_no_other() {
    for (what, rooms) in [
        ("log.append(", &["commands/"][..]),
        ("insert into log.", &["commands/"]),
        ("insert into read.", &["projections/"]),
        ("update read.", &["projections/"]),
        ("delete from read.", &["projections/"]),
        ("from log.", &["commands/"]),
        ("Utc::now()", &["gateway/src/system.rs"]),
    ] {
        let is_test = |path: &str| path.starts_with("tests/") || path.ends_with("/tests.rs");
        for (path, text) in sources().filter(|(path, _)| !is_test(path)) {
            let told = without_tests(&text).contains(what);
            assert!(!told || rooms.iter().any(|room| path.starts_with(room)), "{path} has `{what}`");
        }
    }
}

#[test]
fn decisions_and_presenters_do_not_wait() {
    let ports = "domain/src/log.rs";
    for (path, text) in sources() {
        if path != ports && (path.starts_with("domain/") || path.starts_with("gateway/src/json/")) {
            let waits = ["async fn", "async move", ".await"].into_iter().find(|word| text.contains(word));
            assert_eq!(waits, None, "{path} waits");
        }
    }
}

#[test]
fn migrations_say_when_where_and_what() {
    let mut moments = BTreeSet::new();
    for path in files(&root().join("migrations")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let parts = name.strip_suffix(".sql").and_then(|name| {
            let (moment, rest) = name.split_once('_')?;
            let (schema, what) = rest.split_once('_')?;
            Some((moment, schema, what))
        });
        let Some((moment, schema, what)) = parts else { panic!("{name} is not MOMENT_SCHEMA_NAME.sql") };
        assert!(moment.len() == 14 && moment.bytes().all(|b| b.is_ascii_digit()), "{name}: the moment");
        assert!(["log", "read", "ops"].contains(&schema), "{name}: the schema");
        assert!(what.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}: the name");
        assert!(moments.insert(moment.to_owned()), "{name}: the moment is taken");
    }
    assert!(!moments.is_empty());
}

#[test]
fn no_test_is_forgotten() {
    let main = read(&root().join("tests/it/main.rs"));
    for path in files(&root().join("tests/it")).filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name} is not in main.rs");
    }
}

#[test]
fn nothing_is_left_to_do_or_tied_to_one_machine() {
    // In halves, so that this file doesn't find itself.
    let unwanted = [
        ("to", "do!"),
        ("unimple", "mented!"),
        ("FIX", "ME"),
        ("/ho", "me/"),
        ("/ro", "ot/"),
        ("/wo", "rk/"),
    ];
    for (path, text) in sources() {
        for (head, tail) in unwanted {
            let word = format!("{head}{tail}");
            assert!(!text.contains(&word), "{path} has `{word}`");
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files in a directory and below.
fn files(directory: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    Box::new(entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        let skipped = path.file_name().is_some_and(|name| name == "node_modules" || name == ".venv");
        match path.is_dir() {
            _ if skipped => Box::new(std::iter::empty()),
            true => files(&path),
            false => Box::new(std::iter::once(path)) as Box<dyn Iterator<Item = PathBuf>>,
        }
    }))
}

/// The Rust files of all crates: the path from the root, and the text.
fn sources() -> impl Iterator<Item = (String, String)> {
    let rust = ROOMS.into_iter().flat_map(|(room, _)| files(&root().join(room)));
    rust.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).map(|path| {
        let told = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        (told, read(&path))
    })
}

/// The part of a file above its tests.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]").map_or(text, |(above, _)| above)
}
