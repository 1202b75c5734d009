//! Files and folders over HTTP: taken, listed, changed, served, attached to notes and shown beside names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{TestApp, User};

/// Longer than a fetch takes on a busy machine.
const FETCHED_WITHIN: Duration = Duration::from_secs(30);
/// What a site tells, not in UTF-8.
const FEED: &[u8] = b"<?xml version='1.0' encoding='Shift_JIS'?><rss version='2.0'><channel>\
    <title>\x83j\x83\x85\x81[\x83X</title><item><title>One</title></item></channel></rss>";

/// A picture of one pixel, the same for the same number.
pub fn picture(n: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&[n, 2, 3]).unwrap();
    bytes
}

async fn ids(app: &TestApp, by: &User, path: &str, params: Value) -> Vec<String> {
    let listed = app.ok(by, path, params).await;
    listed.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Path and query of an address of this server.
fn local<'a>(app: &TestApp, url: &'a Value) -> &'a str {
    url.as_str().unwrap().strip_prefix(&app.url).unwrap()
}

#[tokio::test]
async fn a_file_is_taken_served_in_parts_and_deleted() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let bytes = picture(1);
    let made =
        app.upload(&alice, "a.png", bytes.clone(), &[("comment", "alt"), ("isSensitive", "true")]).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let file = made.body;
    assert_eq!((&file["type"], &file["name"]), (&json!("image/png"), &json!("a.png")));
    assert_eq!((&file["comment"], &file["isSensitive"]), (&json!("alt"), &json!(true)));
    assert_eq!((&file["size"], &file["userId"]), (&json!(bytes.len()), &Value::Null));

    let path = local(&app, &file["url"]).to_owned();
    let served = app.get(&path).await;
    let header = |name: &str| served.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "image/png");
    assert_eq!(header("cache-control"), "max-age=31536000, immutable");
    assert_eq!(header("content-disposition"), "inline; filename=\"a.png\"");
    assert!(header("content-security-policy").contains("sandbox"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(served.bytes().await.unwrap(), bytes);
    let part = app.get_with(&path, "range", "bytes=1-3").await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 1-3/{}", bytes.len()));
    assert_eq!(part.bytes().await.unwrap(), bytes[1..=3]);
    let beyond = app.get_with(&path, "range", "bytes=9999-").await;
    assert_eq!(beyond.status(), 416);
    assert_eq!(app.get("/files/no-key").await.status(), 404);

    let id = json!({ "fileId": file["id"] });
    assert_eq!(app.refused(Some(&bob), "drive/files/show", id.clone()).await, "ACCESS_DENIED");
    assert_eq!(app.refused(Some(&bob), "drive/files/delete", id.clone()).await, "ACCESS_DENIED");
    app.ok(&alice, "drive/files/delete", id.clone()).await;
    assert_eq!(app.refused(Some(&alice), "drive/files/delete", id).await, "NO_SUCH_FILE");
    assert_eq!(app.get(&path).await.status(), 404);
    let left = std::fs::read_dir(app.data_dir().join("files").join(&alice.id)).unwrap().count();
    assert_eq!(left, 0, "its bytes are gone");
    assert_eq!(app.ok(&alice, "drive", json!({})).await["usage"], 0);
}

#[tokio::test]
async fn the_same_content_is_kept_once_unless_asked() {
    let (app, _) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let first = app.file(&alice, "a.png", picture(1)).await;
    assert_eq!(app.file(&alice, "b.png", picture(1)).await, first);
    let forced = app.upload(&alice, "b.png", picture(1), &[("force", "true")]).await.body;
    assert_ne!(forced["id"], json!(first));
    assert_eq!(forced["name"], "b.png");
    let md5 = &forced["md5"];
    assert_eq!(ids(&app, &alice, "drive/files/find-by-hash", json!({ "md5": md5 })).await.len(), 2);
    assert_eq!(app.ok(&alice, "drive/files/check-existence", json!({ "md5": md5 })).await, true);
    let other = json!({ "md5": "0".repeat(32) });
    assert_eq!(app.ok(&alice, "drive/files/check-existence", other).await, false);
}

#[tokio::test]
async fn what_is_not_allowed_is_not_taken() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let code = async |name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]| {
        app.upload(&alice, name, bytes, fields).await.body["error"]["code"].as_str().map(str::to_owned)
    };
    let refused = |code: &str| Some(code.to_owned());
    assert_eq!(code("page.html", b"<!doctype html>".to_vec(), &[]).await, refused("UNALLOWED_FILE_TYPE"));
    assert_eq!(code("empty.txt", Vec::new(), &[]).await, refused("UNALLOWED_FILE_TYPE"));
    let nowhere = [("folderId", "0000000000000000")];
    assert_eq!(code("a.png", picture(1), &nowhere).await, refused("FAILED_TO_CREATE_DRIVE_FILE"));
    assert_eq!(code("a.png", picture(1), &[("isSensitive", "maybe")]).await, refused("INVALID_PARAM"));
    assert_eq!(code("a.png", picture(1), &[("name", "../a")]).await, refused("INVALID_FILE_NAME"));
    assert_eq!(app.call(Some(&alice), "drive/files/create", json!({})).await.status, 400);
    let no_file = app.send_form("drive/files/create", [("i", alice.token.as_str())].into_iter(), None).await;
    assert_eq!(no_file.status, 422);
    let stranger = app.send_form("drive/files/create", [].into_iter(), Some(("a.png", picture(1)))).await;
    assert_eq!((stranger.status, &stranger.body["error"]["code"]), (401, &json!("CREDENTIAL_REQUIRED")));

    let policies =
        json!({ "policies": { "rateLimitFactor": 0, "maxFileSizeMb": 0.001, "driveCapacityMb": 0.002 } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    assert_eq!(code("a.txt", vec![b'x'; 2_000], &[]).await, refused("MAX_FILE_SIZE_EXCEEDED"));
    assert_eq!(code("a.txt", vec![b'x'; 1_000], &[]).await, None);
    assert_eq!(code("b.txt", vec![b'y'; 1_000], &[]).await, None);
    assert_eq!(code("c.txt", vec![b'z'; 1_000], &[]).await, refused("NO_FREE_SPACE"));
    let left = std::fs::read_dir(app.data_dir().join("incoming")).unwrap().count();
    assert_eq!(left, 0, "nothing of what was refused is left");
}

#[tokio::test]
async fn svg_and_names_do_no_harm() {
    let (app, _) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>".to_vec();
    let file = app.upload(&alice, "x.svg", svg, &[]).await.body;
    assert_eq!(file["type"], "image/svg+xml");
    let served = app.get(local(&app, &file["url"])).await;
    assert_eq!(served.headers()["content-type"], "application/octet-stream");
    let blob = app.upload(&alice, "blob", picture(1), &[]).await.body;
    assert_eq!(blob["name"], "untitled.png");
    let odd = app.upload(&alice, "../evil/|?*.png", picture(2), &[]).await.body;
    assert_eq!(odd["name"], "|?*.png");
}

#[tokio::test]
async fn folders_hold_files_and_each_other() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let outer = app.ok(&alice, "drive/folders/create", json!({ "name": "Photos" })).await["id"].clone();
    let inner = json!({ "name": "Inner", "parentId": outer });
    let inner = app.ok(&alice, "drive/folders/create", inner).await["id"].clone();
    let file = app.file(&alice, "a.png", picture(1)).await;
    let other = app.file(&alice, "b.png", picture(2)).await;

    let into = json!({ "fileId": file, "folderId": outer, "name": "c.png", "comment": "alt" });
    let updated = app.ok(&alice, "drive/files/update", into).await;
    assert_eq!((&updated["folderId"], &updated["name"]), (&outer, &json!("c.png")));
    assert_eq!(ids(&app, &alice, "drive/files", json!({})).await, [other.as_str()]);
    assert_eq!(ids(&app, &alice, "drive/files", json!({ "folderId": outer })).await, [file.as_str()]);
    assert_eq!(ids(&app, &alice, "drive/stream", json!({})).await, [other.as_str(), file.as_str()]);
    let shown = app.ok(&alice, "drive/files/show", json!({ "fileId": file })).await;
    assert_eq!((&shown["folder"]["name"], &shown["folder"]["filesCount"]), (&json!("Photos"), &json!(1)));
    assert_eq!(shown["user"]["username"], "alice");

    let both = json!({ "fileIds": [file, other], "folderId": inner });
    app.ok(&alice, "drive/files/move-bulk", both.clone()).await;
    app.ok(&bob, "drive/files/move-bulk", json!({ "fileIds": [file], "folderId": null })).await;
    assert_eq!(ids(&app, &alice, "drive/files", json!({ "folderId": inner })).await.len(), 2);
    let recursive = json!({ "folderId": outer, "parentId": inner });
    assert_eq!(app.refused(Some(&alice), "drive/folders/update", recursive).await, "RECURSIVE_NESTING");
    let full = json!({ "folderId": inner });
    assert_eq!(
        app.refused(Some(&alice), "drive/folders/delete", full.clone()).await,
        "HAS_CHILD_FILES_OR_FOLDERS"
    );
    assert_eq!(app.refused(Some(&bob), "drive/folders/show", full.clone()).await, "NO_SUCH_FOLDER");
    app.ok(&alice, "drive/files/move-bulk", json!({ "fileIds": [file, other], "folderId": null })).await;
    app.ok(&alice, "drive/folders/delete", full).await;
    assert_eq!(ids(&app, &alice, "drive/files/find", json!({ "name": "c.png" })).await, [file]);
    assert_eq!(ids(&app, &alice, "drive/folders/find", json!({ "name": "Photos" })).await.len(), 1);
}

#[tokio::test]
async fn notes_show_their_files_and_timelines_find_them() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let (a, b) = (app.file(&alice, "a.png", picture(1)).await, app.file(&alice, "b.png", picture(2)).await);
    app.note(&alice, json!({ "text": "without" })).await;
    let note = app.note(&alice, json!({ "fileIds": [b, a] })).await;
    let named = app.note(&alice, json!({ "text": "old name", "mediaIds": [a] })).await;

    let shown = app.ok(&bob, "notes/show", json!({ "noteId": note })).await;
    let files: Vec<&Value> = shown["files"].as_array().unwrap().iter().map(|file| &file["id"]).collect();
    assert_eq!((files, &shown["fileIds"]), (vec![&json!(b), &json!(a)], &json!([b, a])));
    assert_eq!(shown["files"][0]["userId"], json!(alice.id));
    for (path, params) in [
        ("notes/local-timeline", json!({ "withFiles": true })),
        ("notes/global-timeline", json!({ "withFiles": true })),
        ("notes/hybrid-timeline", json!({ "withFiles": true })),
        ("users/notes", json!({ "withFiles": true, "userId": alice.id })),
    ] {
        assert_eq!(ids(&app, &bob, path, params).await, [named.as_str(), note.as_str()], "{path}");
    }
    assert_eq!(
        ids(&app, &alice, "drive/files/attached-notes", json!({ "fileId": b })).await,
        [note.as_str()]
    );
    let not_mine = json!({ "fileId": b });
    assert_eq!(app.refused(Some(&bob), "drive/files/attached-notes", not_mine).await, "NO_SUCH_FILE");
    for ids in [json!([a, "0000000000000000"]), json!([app.file(&bob, "c.png", picture(3)).await])] {
        let params = json!({ "text": "x", "fileIds": ids });
        assert_eq!(app.refused(Some(&alice), "notes/create", params).await, "NO_SUCH_FILE");
    }

    app.ok(&alice, "drive/files/delete", json!({ "fileId": b })).await;
    let shown = app.ok(&bob, "notes/show", json!({ "noteId": note })).await;
    assert_eq!((shown["files"].as_array().unwrap().len(), &shown["fileIds"]), (1, &json!([b, a])));
    let secret = app.note(&alice, json!({ "fileIds": [a], "visibility": "specified" })).await;
    let hidden = app.ok(&bob, "notes/show", json!({ "noteId": secret })).await;
    assert_eq!((&hidden["files"], &hidden["fileIds"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn a_picture_is_shown_beside_the_name_until_it_is_deleted() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let avatar = app.file(&alice, "a.png", picture(1)).await;
    let text = app.file(&alice, "a.txt", "hello").await;
    let me = app.ok(&alice, "i/update", json!({ "avatarId": avatar, "bannerId": avatar })).await;
    assert_eq!((&me["avatarId"], &me["bannerId"]), (&json!(avatar), &json!(avatar)));
    let seen = app.ok(&bob, "users/show", json!({ "userId": alice.id })).await;
    assert!(!seen["avatarUrl"].as_str().unwrap().contains("identicon"), "{seen}");
    assert_eq!(app.get(local(&app, &seen["bannerUrl"])).await.status(), 200);
    for (params, code) in [
        (json!({ "avatarId": text }), "AVATAR_NOT_AN_IMAGE"),
        (json!({ "bannerId": text }), "BANNER_NOT_AN_IMAGE"),
        (json!({ "avatarId": "0000000000000000" }), "NO_SUCH_AVATAR"),
        (json!({ "bannerId": app.file(&bob, "b.png", picture(2)).await }), "NO_SUCH_BANNER"),
    ] {
        assert_eq!(app.refused(Some(&alice), "i/update", params).await, code);
    }
    app.ok(&alice, "drive/files/delete", json!({ "fileId": avatar })).await;
    let me = app.ok(&alice, "i", json!({})).await;
    assert_eq!((&me["avatarId"], &me["bannerUrl"]), (&Value::Null, &Value::Null));
    assert!(me["avatarUrl"].as_str().unwrap().contains("identicon"));
}

#[tokio::test]
async fn what_was_cut_off_is_swept_and_what_the_log_has_stays() {
    let (app, _) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let kept = app.upload(&alice, "a.png", picture(1), &[]).await.body;
    let folder = app.data_dir().join("files").join(&alice.id);
    let stray = folder.join("00000000-0000-4000-8000-000000000000");
    std::fs::write(&stray, "cut off").unwrap();
    let uuid = |id: &str| id.parse::<domain::FileId>().unwrap().0;
    let noted = "insert into ops.stray_files (file_id, user_id, key, noted_at) values ($1, $2, $3, $4)";
    let key = kept["url"].as_str().unwrap().rsplit('/').next().unwrap();
    let lost = "00000000-0000-4000-8000-000000000000";
    for (file, key) in [(kept["id"].as_str().unwrap(), key), ("01ARZ3NDEKTSV4RRFFQ69G5FAV", lost)] {
        let query = sqlx::query(noted).bind(uuid(file)).bind(uuid(&alice.id)).bind(key);
        query.bind(app.app.now()).execute(&app.app.pool).await.unwrap();
    }
    gateway::drive::stray::sweep(&app.app).await.unwrap();
    assert!(stray.exists(), "somebody may still be at it");
    app.clock.pass(TimeDelta::hours(2));
    gateway::drive::stray::sweep(&app.app).await.unwrap();
    assert!(!stray.exists());
    assert_eq!(app.get(local(&app, &kept["url"])).await.status(), 200);
    let left: i64 =
        sqlx::query_scalar("select count(*) from ops.stray_files").fetch_one(&app.app.pool).await.unwrap();
    assert_eq!(left, 0);
}

/// A picture of so many pixels, in PNG.
pub fn large_picture(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..width * height * 3).map(|n| (n % 251) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_measured_and_made_small_and_one_that_is_none_does_no_harm() {
    let (app, _) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let file = app.upload(&alice, "a.png", large_picture(600, 300), &[]).await.body;
    assert_eq!(file["properties"], json!({ "width": 600, "height": 300 }));
    assert!(file["blurhash"].as_str().unwrap().starts_with('e'), "{file}");
    let small = app.get(local(&app, &file["thumbnailUrl"])).await;
    assert_eq!(small.headers()["content-type"], "image/webp");
    assert!(small.bytes().await.unwrap().starts_with(b"RIFF"));

    let mut bomb = Vec::new();
    let encoder = png::Encoder::new(&mut bomb, 60_000, 60_000);
    drop(encoder.write_header().unwrap());
    let harmless = app.upload(&alice, "bomb.png", bomb, &[]).await;
    assert_eq!((harmless.status, &harmless.body["thumbnailUrl"]), (200, &Value::Null));
    assert_eq!(harmless.body["properties"], json!({}));

    app.ok(&alice, "i/update", json!({ "avatarId": file["id"] })).await;
    let me = app.ok(&alice, "i", json!({})).await;
    let avatar = app.get(local(&app, &me["avatarUrl"])).await;
    assert_eq!(
        (avatar.status().as_u16(), &avatar.headers()["content-type"]),
        (200, &"image/webp".parse().unwrap())
    );
    app.ok(&alice, "drive/files/delete", json!({ "fileId": file["id"] })).await;
    let left = std::fs::read_dir(app.data_dir().join("files").join(&alice.id)).unwrap().count();
    assert_eq!(left, 1, "the bomb alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_comes_from_the_public_or_from_nowhere() {
    let (app, _) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.png", elsewhere.local_addr().unwrap());
    let bytes = large_picture(40, 20);
    let served = bytes.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let page = axum::Router::new()
        .route(
            "/a.png",
            axum::routing::get(move || async move {
                counted.fetch_add(1, Ordering::Relaxed);
                served
            }),
        )
        .route("/page", axum::routing::get(|| async { axum::response::Html("<title>A page</title>") }))
        .route("/feed", axum::routing::get(|| async { FEED }));
    tokio::spawn(axum::serve(elsewhere, page).into_future());
    let (page, feed) = (url.replace("a.png", "page"), url.replace("a.png", "feed"));

    let proxied = format!("/proxy/image.webp?url={url}&preview=1");
    assert_eq!(app.get(&proxied).await.status(), 404, "it is in the operator's own network");
    assert_eq!(app.get(&format!("/url?url={page}")).await.status(), 422);
    assert_eq!(app.refused(None, "fetch-rss", json!({ "url": feed })).await, "NO_SUCH_FEED");

    let open = TestApp::in_real_time(&[("allowed-private-networks", "127.0.0.0/8")]).await;
    let root = open.sign_up("root").await;
    let small = open.get(&proxied).await;
    assert_eq!(small.headers()["content-type"], "image/webp");
    let told = open.get(&format!("/url?url={page}")).await.bytes().await.unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["title"], "A page");
    let told = open.get(&format!("/api/fetch-rss?url={feed}")).await;
    assert_eq!(told.headers()["cache-control"], "public, max-age=180");
    let told: Value = serde_json::from_slice(&told.bytes().await.unwrap()).unwrap();
    assert_eq!(told, json!({ "title": "ニュース", "items": [{ "title": "One" }] }));
    assert_eq!(open.refused(None, "fetch-rss", json!({ "url": page })).await, "NO_SUCH_FEED");
    open.ok(&root, "drive/files/upload-from-url", json!({ "url": url })).await;
    until_found(&open, &root, "a.png").await;

    // Nobody is asked, and what comes after it still comes.
    let before = asked.load(Ordering::Relaxed);
    assert!(app.app.fetcher.get(&url, "*/*").await.is_err());
    app.ok(&alice, "drive/files/upload-from-url", json!({ "url": url })).await;
    let own = app.upload(&alice, "b.png", picture(1), &[]).await.body;
    app.ok(&alice, "drive/files/upload-from-url", json!({ "url": own["url"], "force": true })).await;
    until_found(&app, &alice, "b.png").await;
    assert_eq!(asked.load(Ordering::Relaxed), before);
    assert_eq!(ids(&app, &alice, "drive/files/find", json!({ "name": "a.png" })).await, [""; 0]);
}

/// Waits until a file has been taken from elsewhere, which has this name.
async fn until_found(app: &TestApp, by: &User, name: &str) {
    let found = async {
        loop {
            let told = "select count(*) from log.events where kind = 'drive.file_fetched'";
            let told: i64 = sqlx::query_scalar(told).fetch_one(&app.app.pool).await.unwrap();
            if told > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(FETCHED_WITHIN, found).await.unwrap();
    assert!(!ids(app, by, "drive/files/find", json!({ "name": name })).await.is_empty());
}

#[tokio::test]
async fn moderators_look_after_everybodys_files_and_pictures() {
    let (app, root) = TestApp::opened().await;
    let alice = app.sign_up("alice").await;
    let (first, second) =
        (app.file(&alice, "a.png", picture(1)).await, app.file(&alice, "b.png", picture(2)).await);
    app.file(&root, "c.txt", b"text".to_vec()).await;
    app.ok(&alice, "i/update", json!({ "avatarId": first, "bannerId": second })).await;
    let whose = json!({ "userId": alice.id });
    for path in ["admin/drive/files", "admin/drive/cleanup", "admin/drive/clean-remote-files"] {
        assert_eq!(app.refused(Some(&alice), path, json!({})).await, "ROLE_PERMISSION_DENIED");
    }
    assert_eq!(ids(&app, &root, "admin/drive/files", json!({})).await.len(), 3);
    assert_eq!(ids(&app, &root, "admin/drive/files", whose.clone()).await, [second.clone(), first.clone()]);
    assert_eq!(ids(&app, &root, "admin/drive/files", json!({ "type": "text/*" })).await.len(), 1);
    assert_eq!(ids(&app, &root, "admin/drive/files", json!({ "origin": "remote" })).await.len(), 0);
    let known = app.ok(&root, "admin/drive/show-file", json!({ "fileId": first })).await;
    assert_eq!((&known["name"], &known["userId"]), (&json!("a.png"), &json!(alice.id)));
    let by_url = app.ok(&root, "admin/drive/show-file", json!({ "url": known["url"] })).await;
    assert_eq!(by_url["id"], known["id"]);
    let nothing = json!({ "fileId": "0000000000000000" });
    assert_eq!(app.refused(Some(&root), "admin/drive/show-file", nothing).await, "NO_SUCH_FILE");
    app.ok(&root, "admin/drive/cleanup", json!({})).await;
    app.ok(&root, "admin/drive/clean-remote-files", json!({})).await;

    let me = async || app.ok(&alice, "i", json!({})).await;
    app.ok(&root, "admin/unset-user-avatar", whose.clone()).await;
    assert_eq!((&me().await["avatarId"], &me().await["bannerId"]), (&Value::Null, &json!(second)));
    app.ok(&root, "admin/unset-user-banner", whose.clone()).await;
    assert_eq!(me().await["bannerUrl"], Value::Null);
    let nobody = json!({ "userId": "0000000000000000" });
    assert_eq!(app.refused(Some(&root), "admin/unset-user-avatar", nobody).await, "NO_SUCH_USER");

    app.ok(&root, "admin/drive/delete-all-files-of-a-user", whose.clone()).await;
    assert_eq!(ids(&app, &root, "admin/drive/files", whose).await.len(), 0);
    assert_eq!(app.ok(&alice, "drive", json!({})).await["usage"], 0);
    let log = app.ok(&root, "admin/show-moderation-logs", json!({ "limit": 100 })).await;
    let kinds: Vec<_> = log.as_array().unwrap().iter().filter_map(|line| line["type"].as_str()).collect();
    let count = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!(["unsetUserAvatar", "unsetUserBanner", "deleteDriveFile"].map(count), [1, 1, 2]);
}

#[tokio::test]
async fn a_channel_shows_a_banner_while_the_file_is_there() {
    let (app, _) = TestApp::opened().await;
    let (alice, bob) = (app.sign_up("alice").await, app.sign_up("bob").await);
    let file = app.upload(&alice, "a.png", picture(1), &[]).await.body;
    let new = json!({ "name": "Tea", "bannerId": file["id"] });
    assert_eq!(app.refused(Some(&bob), "channels/create", new.clone()).await, "NO_SUCH_FILE");
    let channel = app.ok(&alice, "channels/create", new).await;
    assert_eq!((&channel["bannerId"], &channel["bannerUrl"]), (&file["id"], &file["url"]));
    let id = channel["id"].clone();
    let update = async |banner: Value| {
        app.ok(&alice, "channels/update", json!({ "channelId": id, "bannerId": banner })).await
    };
    assert_eq!(update(Value::Null).await["bannerUrl"], Value::Null);
    update(file["id"].clone()).await;
    let show = async || app.ok(&bob, "channels/show", json!({ "channelId": id })).await;
    assert_eq!(show().await["bannerUrl"], file["url"]);
    app.ok(&alice, "drive/files/delete", json!({ "fileId": file["id"] })).await;
    assert_eq!(show().await["bannerUrl"], Value::Null);
}
