//! The document of the API: the committed copy (`openapi.json`) is the one that is served. After a change
//! that is meant, run this test with `KIROKU_TEST_UPDATE=yes` and commit the copy.

use std::fs;

use gateway::api::openapi::document;
use gateway::config::Given;
use gateway::misskey::registry;
use serde_json::Value;

#[test]
fn the_committed_document_is_the_served_one() {
    let path = crate::root().join("tests/it/openapi.json");
    let served = document(registry(), "https://social.example");
    if Given::from_process().environment.contains_key("KIROKU_TEST_UPDATE") {
        fs::write(&path, format!("{served:#}\n")).unwrap();
    }
    let committed: Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
    let differing: Vec<&String> = served["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(path, item)| committed["paths"][path.as_str()] != **item)
        .map(|(path, _)| path)
        .collect();
    assert!(
        served == committed,
        "the document differs from its copy, in the paths {differing:?} and perhaps elsewhere"
    );
}
