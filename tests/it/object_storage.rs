//! Files in a bucket: everything that touches files, with the store there, gone, back again, and set up wrongly.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use gateway::config::{Given, load};
use gateway::drive::store::{Store, StoreError};
use gateway::drive::stray;
use serde_json::{Value, json};

use crate::drive::{large_picture, picture};
use crate::harness::{TestApp, User};
use crate::s3_double::{BUCKET, Double, SECRET_KEY};

/// Longer than a part of a file, so that it is sent in three.
const LONG_BYTES: u32 = 12 * 1024 * 1024;

fn long() -> Vec<u8> {
    (0..LONG_BYTES).map(|n| b'a' + (n % 23) as u8).collect()
}

async fn opened(double: &Double) -> (TestApp, User, User) {
    let app = TestApp::with_variables(double.settings()).await;
    let root = app.sign_up("root").await;
    app.ok(&root, "admin/update-meta", json!({ "disableRegistration": false })).await;
    app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": { "rateLimitFactor": 0 } }))
        .await;
    let alice = app.sign_up("alice").await;
    (app, root, alice)
}

fn path(app: &TestApp, url: &Value) -> String {
    url.as_str().unwrap().strip_prefix(&app.url).unwrap().to_owned()
}

async fn served(app: &TestApp, file: &Value) -> (u16, Vec<u8>) {
    let answer = app.get(&path(app, &file["url"])).await;
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

/// Where somebody's files are in the bucket.
fn under(user: &User) -> String {
    format!("some/where/{}/", user.id)
}

fn nothing_is_incoming(app: &TestApp) {
    let left: Vec<_> = std::fs::read_dir(app.data_dir().join("incoming")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_kept_in_a_bucket_served_in_parts_and_go_with_their_owner() {
    let double = Double::start().await;
    let (app, root, alice) = opened(&double).await;
    let small = app.upload(&alice, "a.png", large_picture(600, 300), &[]).await.body;
    let long = long();
    let large = app.upload(&alice, "a.txt", long.clone(), &[]).await.body;
    assert_eq!(large["size"], json!(long.len()), "{large}");
    assert_eq!(double.keys(&under(&alice)).len(), 3, "two files, and the thumbnail of one");
    assert!(double.unended().is_empty());
    assert!(!app.data_dir().join("files").exists());
    nothing_is_incoming(&app);

    assert!(served(&app, &small).await == (200, large_picture(600, 300)));
    assert!(served(&app, &large).await == (200, long.clone()));
    let thumbnail = app.get(&path(&app, &small["thumbnailUrl"])).await;
    assert_eq!(thumbnail.headers()["content-type"], "image/webp");
    assert!(thumbnail.bytes().await.unwrap().starts_with(b"RIFF"));
    let url = path(&app, &large["url"]);
    let part = app.get_with(&url, "range", "bytes=6000000-6000099").await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 6000000-6000099/{LONG_BYTES}"));
    assert_eq!(part.headers()["content-type"], "text/plain");
    assert_eq!(part.headers()["cache-control"], "max-age=31536000, immutable");
    assert_eq!(part.headers()["x-content-type-options"], "nosniff");
    assert_eq!(part.bytes().await.unwrap(), long[6_000_000..6_000_100]);
    let end = app.get_with(&url, "range", "bytes=-10").await;
    assert_eq!(end.bytes().await.unwrap(), long[long.len() - 10..]);
    let beyond = app.get_with(&url, "range", "bytes=99999999-").await;
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{LONG_BYTES}"));
    let proxied = format!("/proxy/avatar.webp?url={}&avatar=1", small["url"].as_str().unwrap());
    assert_eq!(app.get(&proxied).await.headers()["content-type"], "image/webp");

    let emoji = app.ok(&root, "admin/emoji/add", json!({ "name": "blob", "fileId": small["id"] })).await;
    assert_eq!(double.keys("some/where/server/").len(), 2);
    app.ok(&alice, "drive/files/delete", json!({ "fileId": small["id"] })).await;
    assert_eq!(served(&app, &small).await.0, 404);
    assert_eq!(double.keys(&under(&alice)).len(), 1, "the thumbnail went with its file");
    let known = app.ok(&root, "admin/drive/show-file", json!({ "fileId": large["id"] })).await;
    assert_eq!(known["storedInternal"], false);

    double.begin(&format!("{}{}", under(&alice), key(&large)));
    app.app.eraser.erase(alice.id.parse().unwrap()).await.unwrap();
    assert!(
        double.keys(&under(&alice)).is_empty() && double.unended().is_empty(),
        "something of hers is left"
    );
    assert_eq!(served(&app, &emoji).await.0, 200, "the emoji stays");
}

/// Under which a file is kept.
fn key(file: &Value) -> &str {
    file["url"].as_str().unwrap().rsplit('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_and_comes_back_has_all_that_was_acknowledged_and_nothing_else() {
    let mut double = Double::start().await;
    let (app, _, alice) = opened(&double).await;
    let bob = app.sign_up("bob").await;
    let kept = app.upload(&alice, "a.png", picture(1), &[]).await.body;
    let doomed = app.upload(&alice, "b.png", picture(2), &[]).await.body;
    let his = app.upload(&bob, "c.png", picture(3), &[]).await.body;

    double.go_away().await;
    let (status, told) = served(&app, &kept).await;
    assert_eq!((status, told.len()), (500, 0));
    for (name, bytes) in [("d.png", picture(4)), ("d.txt", long())] {
        let refused = app.upload(&alice, name, bytes, &[]).await;
        assert_eq!((refused.status, &refused.body["error"]["code"]), (500, &json!("INTERNAL_ERROR")));
        let told = refused.body.to_string();
        for hidden in [BUCKET, "127.0.0.1", "object", "some/where"] {
            assert!(!told.contains(hidden), "{told}");
        }
    }
    nothing_is_incoming(&app);
    app.ok(&alice, "drive/files/delete", json!({ "fileId": doomed["id"] })).await;
    assert_eq!(served(&app, &doomed).await.0, 404);
    assert!(app.app.eraser.erase(bob.id.parse().unwrap()).await.is_err(), "his files are there");
    app.clock.pass(TimeDelta::hours(2));
    assert!(stray::sweep(&app.app).await.is_err());

    double.come_back().await;
    assert_eq!(served(&app, &kept).await, (200, picture(1)));
    let again = app.upload(&alice, "d.png", picture(4), &[]).await;
    assert_eq!(again.status, 200, "{}", again.body);
    app.app.eraser.erase(bob.id.parse().unwrap()).await.unwrap();
    assert!(double.keys(&under(&bob)).is_empty(), "{his}");
    stray::sweep(&app.app).await.unwrap();
    let mut expected = Vec::new();
    for file in [&kept, &again.body] {
        let thumbnail = file["thumbnailUrl"].as_str().map(|url| url.rsplit('/').next().unwrap());
        expected.extend([Some(key(file)), thumbnail].into_iter().flatten().map(str::to_owned));
    }
    expected.sort();
    assert_eq!(double.keys(&under(&alice)), expected);
    let listed = app.ok(&alice, "drive/files", json!({})).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let left: i64 =
        sqlx::query_scalar("select count(*) from ops.stray_files").fetch_one(&app.app.pool).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_off_in_the_middle_leaves_nothing() {
    let double = Double::start().await;
    let (app, _, alice) = opened(&double).await;

    // The store fails, and does not even take back what was sent.
    double.fail_at_part(2);
    let refused = app.upload(&alice, "a.txt", long(), &[]).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (500, &json!("INTERNAL_ERROR")));
    assert_eq!(double.unended(), [1]);
    double.fail_at_part(0);
    let of_somebody_else = "some/where/else.bin";
    double.begin(of_somebody_else);
    stray::sweep(&app.app).await.unwrap();
    assert_eq!(double.unended().len(), 2, "somebody may still be at it");
    app.clock.pass(TimeDelta::hours(2));
    stray::sweep(&app.app).await.unwrap();
    assert_eq!(double.unended(), [0], "only what is somebody else's stays");

    // Whoever sends it hangs up while the store takes it: it is ended, and swept.
    double.take_for_each_part(Duration::from_millis(300));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let begun = async {
        while double.unended().len() < 2 {
            assert!(tokio::time::Instant::now() < deadline, "it is never begun");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = app.upload(&alice, "a.txt", long(), &[]) => panic!("the store took it at once"),
        () = begun => (),
    }
    while double.unended().len() > 1 || double.keys(&under(&alice)).is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it is never ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.clock.pass(TimeDelta::hours(2));
    stray::sweep(&app.app).await.unwrap();
    assert!(app.ok(&alice, "drive/files", json!({})).await.as_array().unwrap().is_empty());
    assert!(double.keys(&under(&alice)).is_empty());
    nothing_is_incoming(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bucket_or_key_is_told_in_one_line_and_a_store_that_is_away_is_waited_for() {
    let mut double = Double::start().await;
    let store = |name: &str, value: &str| {
        let mut environment: BTreeMap<String, String> = double.settings().into_iter().collect();
        environment.insert(format!("KIROKU_OBJECT_STORAGE_{name}"), value.to_owned());
        Store::open(&load(&Given { environment, ..Given::default() }).unwrap().config).unwrap()
    };
    let right = store("REGION", "eu-test-1");
    right.check().await.unwrap();
    for (name, value, code) in [
        ("BUCKET", "another", "NoSuchBucket"),
        ("ACCESS_KEY", "another", "InvalidAccessKeyId"),
        ("REGION", "another", "InvalidAccessKeyId"),
    ] {
        let error = store(name, value).check().await.unwrap_err();
        assert!(error.is_final(), "{error}");
        let told = error.to_string();
        assert!(told.contains(code) && told.lines().count() == 1, "{told}");
    }
    // What is in a bucket that isn't there nobody knows.
    let owner: domain::UserId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let gone = "00000000-0000-4000-8000-000000000000";
    assert!(right.get(owner, gone, None).await.unwrap().is_none());
    assert!(store("BUCKET", "another").get(owner, gone, None).await.is_err());
    assert!(store("BUCKET", "another").delete(owner, gone).await.is_err());

    double.go_away().await;
    let error = right.check().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)) && !error.is_final(), "{error}");
    let told = error.to_string();
    assert!(!told.contains(SECRET_KEY) && !told.contains("Signature"), "{told}");
    let app = TestApp::with_variables(double.settings()).await;
    let root = app.sign_up("root").await;
    assert_eq!(app.upload(&root, "a.png", picture(1), &[]).await.status, 500);
    double.come_back().await;
    assert_eq!(app.upload(&root, "a.png", picture(1), &[]).await.status, 200);
}
