//! Days on a server through libraries that apps and bots are written with (`tests/clients`).

use std::process::Stdio;

use tokio::process::Command;

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn misskey_js_has_a_first_day() {
    run("node", "misskey-js.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn megalodon_has_a_working_day() {
    run("node", "megalodon.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misskey_py_has_a_working_day() {
    let python = crate::python();
    run(python.to_str().unwrap(), "misskey-py.py").await;
}

async fn run(program: &str, script: &str) {
    let script = crate::root().join("tests/clients").join(script);
    assert!(script.with_file_name("node_modules").is_dir(), "npm ci has not run: use scripts/test");
    let app = TestApp::in_real_time(&[]).await;
    let run = Command::new(program).arg(script).arg(&app.url).stdin(Stdio::null()).output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&run.stdout));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    app.settle().await;
}
