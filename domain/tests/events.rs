//! A golden file for every version of every kind ever written: `events/{kind}.{schema}.json`.

use std::path::PathBuf;

use domain::event::{Event, KINDS};

fn golden(kind: &str, schema: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/events/{kind}.{schema}.json"))
}

#[test]
fn every_version_of_every_kind_has_a_golden_file_that_can_be_read() {
    for (kind, newest) in KINDS {
        for schema in 1..=*newest {
            let path = golden(kind, schema);
            let json = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let event =
                Event::from_json(kind, schema, &json).unwrap_or_else(|e| panic!("{kind}.{schema}: {e}"));
            assert_eq!(event.kind().0, *kind);
            if schema == *newest {
                let written: serde_json::Value = serde_json::from_slice(&event.to_json().unwrap()).unwrap();
                let stored: serde_json::Value = serde_json::from_slice(&json).unwrap();
                assert_eq!(written, stored, "{kind} is written in another shape than its golden file");
            }
        }
    }
}

#[test]
fn no_golden_file_is_forgotten() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/events");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".json").unwrap();
        let (kind, schema) = stem.rsplit_once('.').unwrap();
        let schema: u16 = schema.parse().unwrap();
        let known = KINDS.iter().any(|(known, newest)| *known == kind && (1..=*newest).contains(&schema));
        assert!(known, "{name} is the golden file of no kind");
    }
}

#[test]
fn what_is_newer_or_unknown_is_refused() {
    assert!(Event::from_json("note.created", 99, b"{}").is_err());
    assert!(Event::from_json("no.such", 1, b"{}").is_err());
}
