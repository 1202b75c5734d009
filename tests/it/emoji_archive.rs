//! All custom emoji in one archive: out of one server and into another.

use std::io::{Cursor, Read, Write};

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::emoji::{add, picture};
use crate::harness::{TestApp, User};

/// A server whose people may upload archives.
async fn opened() -> (TestApp, User) {
    let (app, root) = TestApp::opened().await;
    let policies =
        json!({ "rateLimitFactor": 0, "uploadableFileTypes": ["image/*", "text/*", "application/zip"] });
    app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": policies })).await;
    (app, root)
}

/// Waits until everything that was promised is done.
async fn done(app: &TestApp) {
    app.nothing_waits("ops.jobs").await;
    app.settle().await;
}

async fn exported(app: &TestApp, by: &User) -> Vec<u8> {
    app.ok(by, "export-custom-emojis", json!({})).await;
    done(app).await;
    let told =
        app.ok(by, "i/notifications", json!({ "includeTypes": ["exportCompleted"], "limit": 1 })).await;
    assert_eq!(told[0]["exportedEntity"], "customEmoji");
    let file = app.ok(by, "drive/files/show", json!({ "fileId": told[0]["fileId"] })).await;
    assert_eq!(file["type"], "application/zip");
    assert!(file["name"].as_str().unwrap().starts_with("custom-emojis-"), "{file}");
    bytes(app, &file["url"]).await
}

async fn bytes(app: &TestApp, url: &Value) -> Vec<u8> {
    let (_, key) = url.as_str().unwrap().split_once("/files/").unwrap();
    app.get(&format!("/files/{key}")).await.bytes().await.unwrap().to_vec()
}

async fn import(app: &TestApp, by: &User, archive: &[u8]) {
    let file = app.file(by, "emoji.zip", archive).await;
    app.ok(by, "admin/emoji/import-zip", json!({ "fileId": file })).await;
    done(app).await;
}

/// What there is of each emoji, but for what says where and when.
async fn emoji(app: &TestApp, by: &User) -> Vec<(Value, Vec<u8>)> {
    let mut all = Vec::new();
    for name in app.ok(by, "emojis", json!({})).await["emojis"].as_array().unwrap() {
        let mut emoji = app.ok(by, "emoji", json!({ "name": name["name"] })).await;
        let picture = bytes(app, &emoji["url"]).await;
        let fields = emoji.as_object_mut().unwrap();
        fields.retain(|name, _| !["id", "url"].contains(&name.as_str()));
        all.push((emoji, picture));
    }
    all
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in files {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn emoji_move_to_another_server() {
    let (from, root) = TestApp::opened().await;
    let about = json!({ "category": "faces", "aliases": ["round", "丸"], "license": "CC0",
                        "isSensitive": true, "localOnly": true });
    add(&from, &root, "blob", 1, about).await;
    add(&from, &root, "Cat_2", 2, json!({})).await;
    let alice = from.sign_up("alice").await;
    let written = exported(&from, &alice).await;

    let mut read = ZipArchive::new(Cursor::new(written.clone())).unwrap();
    let mut names: Vec<String> = read.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Cat_2.png", "blob.png", "meta.json"]);
    let mut meta = String::new();
    read.by_name("meta.json").unwrap().read_to_string(&mut meta).unwrap();
    let meta: Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta["metaVersion"], 2);
    let blob = &meta["emojis"][0];
    assert_eq!((&blob["fileName"], &blob["downloaded"]), (&json!("blob.png"), &json!(true)));
    assert_eq!(blob["emoji"]["aliases"], json!(["round", "丸"]));
    assert_eq!((&blob["emoji"]["type"], &blob["emoji"]["host"]), (&json!("image/png"), &Value::Null));

    let (to, root_there) = opened().await;
    let bob = to.sign_up("bob").await;
    let theirs = to.file(&bob, "emoji.zip", written.clone()).await;
    let import_of = |file: &str| json!({ "fileId": file });
    let refused =
        async |by: &User, file: &str| to.refused(Some(by), "admin/emoji/import-zip", import_of(file)).await;
    assert_eq!(refused(&bob, &theirs).await, "ROLE_PERMISSION_DENIED");
    assert_eq!(refused(&root_there, &theirs).await, "INVALID_PARAM");
    let text = to.file(&root_there, "a.txt", b"text".to_vec()).await;
    assert_eq!(refused(&root_there, &text).await, "INVALID_PARAM");

    // One with the name of one that is there takes its place.
    add(&to, &root_there, "blob", 9, json!({})).await;
    let expected = emoji(&from, &root).await;
    for _ in 0..2 {
        import(&to, &root_there, &written).await;
        assert_eq!(emoji(&to, &root_there).await, expected);
    }
    let kept = std::fs::read_dir(to.data_dir().join("files/server")).unwrap().count();
    assert_eq!(kept, 4, "two pictures, and the small ones of them");
    assert_eq!(std::fs::read_dir(to.data_dir().join("incoming")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_do_harm_are_refused() {
    let (app, root) = opened().await;
    add(&app, &root, "blob", 1, json!({})).await;
    let before = emoji(&app, &root).await;
    let record =
        |name: &str, file: &str| json!({ "fileName": file, "downloaded": true, "emoji": { "name": name } });
    let meta = |records: Value| json!({ "metaVersion": 2, "emojis": records }).to_string().into_bytes();
    let good = picture(2);
    let much = vec![0; 8 << 20];
    let outside = meta(json!([record("blob", "blob.png"), record("x", "../../master.key")]));
    let listed = meta(json!([record("new", "new.png")]));
    for hostile in [
        archive(&[("meta.json", &outside), ("blob.png", &good)]),
        archive(&[("meta.json", &listed), ("new.png", &good), ("../../escaped.png", &good)]),
        archive(&[("meta.json", &listed), ("new.png", &much)]),
        archive(&[("new.png", &good)]),
        archive(&[("meta.json", b"{"), ("new.png", &good)]),
        archive(&[("meta.json", &listed), ("new.png", &good)])[..200].to_vec(),
        // What is no picture is passed over.
        archive(&[("meta.json", &listed), ("new.png", b"<script>alert(1)</script>")]),
    ] {
        import(&app, &root, &hostile).await;
        assert_eq!(emoji(&app, &root).await, before);
    }
    let fine = meta(json!([record("a b", "new.png"), record("new", "new.png"), record("gone", "gone.png")]));
    import(&app, &root, &archive(&[("meta.json", &fine), ("new.png", &good)])).await;
    let names: Vec<_> =
        emoji(&app, &root).await.into_iter().map(|(emoji, _)| emoji["name"].clone()).collect();
    assert_eq!(names, ["blob", "new"]);
    assert!(!app.data_dir().join("escaped.png").exists());
}
