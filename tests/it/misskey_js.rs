//! A first day through misskey-js, the library of Misskey's own client (`tests/misskey-js`).

use std::process::Stdio;

use tokio::process::Command;

use crate::harness::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn misskey_js_has_a_first_day() {
    let script = crate::root().join("tests/misskey-js/first-day.mjs");
    assert!(script.with_file_name("node_modules").is_dir(), "npm ci has not run: use scripts/test");
    let app = TestApp::in_real_time(&[]).await;
    let run = Command::new("node").arg(script).arg(&app.url).stdin(Stdio::null()).output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&run.stdout));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    app.settle().await;
}
