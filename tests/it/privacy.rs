//! Nobody reads what is not for them: every endpoint that shows notes, for every kind of viewer and every
//! kind of note, against the policy itself.

use std::collections::BTreeSet;

use domain::log::StreamId;
use domain::note::{self, Created, Note};
use domain::policy::{Between, Facts, may_see};
use domain::{Fold, user};
use gateway::misskey::registry;
use serde_json::{Value, json};

use crate::harness::{TestApp, User};

/// A note with words that are nowhere else.
struct Written {
    words: String,
    author: usize,
    /// As the log has it.
    note: Created,
}

/// The people: two authors (one wants viewers to sign in), and what the others are to both.
const NAMES: [&str; 7] = ["open", "shy", "addressed", "mentioned", "answered", "follower", "stranger"];
const AUTHORS: [usize; 2] = [0, 1];
const ADDRESSED: usize = 2;
const MENTIONED: usize = 3;
const ANSWERED: usize = 4;
const FOLLOWER: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_is_not_for_them() {
    let (app, root) = TestApp::opened().await;
    let policies = json!({ "policies": { "pinLimit": 100, "canSearchNotes": true } });
    app.ok(&root, "admin/roles/update-default-policies", policies).await;
    app.ok(&root, "admin/update-meta", json!({ "pinnedUsers": NAMES })).await;
    let mut people = Vec::new();
    for name in NAMES {
        people.push(app.sign_up(name).await);
    }
    for author in AUTHORS {
        app.ok(&people[FOLLOWER], "following/create", json!({ "userId": people[author].id })).await;
    }
    app.ok(&people[1], "i/update", json!({ "requireSigninToViewContents": true })).await;
    let mut profiles = Vec::new();
    for author in AUTHORS {
        let id = people[author].id.parse().unwrap();
        profiles.push(fold::<user::User>(&app, &user::stream(id)).await.profile);
    }
    let (mut lists, mut antennas) = (Vec::new(), Vec::new());
    for person in &people {
        let list = app.ok(person, "users/lists/create", json!({ "name": "both" })).await;
        for author in AUTHORS {
            let push = json!({ "listId": list["id"], "userId": people[author].id });
            app.ok(person, "users/lists/push", push).await;
            let all = json!({ "listId": list["id"], "userId": people[author].id, "withReplies": true });
            app.ok(person, "users/lists/update-membership", all).await;
        }
        lists.push(list["id"].as_str().unwrap().to_owned());
        let antenna = json!({
            "name": "all", "src": "all", "keywords": [["words"]], "excludeKeywords": [], "users": [],
            "caseSensitive": false, "withReplies": true, "withFile": false,
        });
        let antenna = app.ok(person, "antennas/create", antenna).await;
        antennas.push(antenna["id"].as_str().unwrap().to_owned());
    }
    let question = app.note(&people[ANSWERED], json!({ "text": "any thoughts?" })).await;
    let written = write(&app, &people, &question).await;
    let channel = app.ok(&people[1], "channels/create", json!({ "name": "channel" })).await;
    let channel = channel["id"].as_str().unwrap().to_owned();
    app.note(&people[1], json!({ "text": "said in the channel", "channelId": channel })).await;
    for person in &people {
        for path in ["channels/follow", "channels/favorite"] {
            app.ok(person, path, json!({ "channelId": channel })).await;
        }
    }
    let pins: Vec<String> = written.iter().map(|note| note.note.id.to_string()).collect();
    app.ok(&people[1], "channels/update", json!({ "channelId": channel, "pinnedNoteIds": pins })).await;
    let clip = show_off(&app, &people, &written).await;
    let role = crate::role::role(&app, &root, json!({})).await;
    for author in AUTHORS {
        app.ok(&root, "admin/roles/assign", json!({ "roleId": role, "userId": people[author].id })).await;
    }
    // Who administers sees no more notes than others do.
    let office = crate::role::role(&app, &root, json!({ "isAdministrator": true })).await;
    app.ok(&root, "admin/roles/assign", json!({ "roleId": office, "userId": people[FOLLOWER].id })).await;
    let report = json!({ "userId": people[AUTHORS[0]].id, "comment": "rude" });
    app.ok(&people[AUTHORS[1]], "users/report-abuse", report).await;

    let mine = [lists[0].as_str(), &antennas[0], &channel, &role];
    let paths: BTreeSet<&str> =
        calls(&people, &question, &clip, &written[0], mine).iter().map(|(path, _)| *path).collect();
    let missing: Vec<_> = showing_notes().into_iter().filter(|path| !paths.contains(path)).collect();
    assert!(missing.is_empty(), "endpoints that show notes and are not called here: {missing:?}");

    let now = app.app.now();
    let mut shown = 0;
    for viewer in (0..people.len()).map(Some).chain([None]) {
        let by = viewer.map(|viewer| &people[viewer]);
        let between = Between { viewer_follows_author: viewer == Some(FOLLOWER) };
        let id = by.map(|user| user.id.parse().unwrap());
        let told_of = |written: &Written| {
            may_see(id, &Facts::of(&written.note, &profiles[written.author]), between, now)
        };
        for note in &written {
            let own = viewer.unwrap_or(0);
            let mine = [lists[own].as_str(), &antennas[own], &channel, &role];
            for (path, params) in calls(&people, &question, &clip, note, mine) {
                let answer = app.call(by, path, params.clone()).await;
                let text = answer.body.to_string();
                let leaks = written.iter().filter(|other| text.contains(&other.words) && !told_of(other));
                let leaked: Vec<&str> = leaks.map(|other| other.words.as_str()).collect();
                let who = viewer.map_or("nobody", |viewer| NAMES[viewer]);
                assert!(leaked.is_empty(), "{path} {params} shows {leaked:?} to {who}");
                if path == "notes/show" {
                    assert_eq!(
                        text.contains(&note.words),
                        told_of(note),
                        "{} shown to {who}: {text}",
                        note.words
                    );
                    shown += usize::from(told_of(note));
                }
            }
        }
    }
    assert!(shown > written.len(), "only {shown} notes were shown: this test tests little");
}

/// Each author writes a note of each visibility, alone and as an answer.
async fn write(app: &TestApp, people: &[User], question: &str) -> Vec<Written> {
    let mut written = Vec::new();
    for author in AUTHORS {
        let file = app.file(&people[author], "a.txt", "attached").await;
        for visibility in ["public", "home", "followers", "specified"] {
            for answers in [false, true] {
                let words = format!("words{}", written.len() + 100);
                let mut params = json!({
                    "text": format!("{words} for @{} #words", NAMES[MENTIONED]),
                    "cw": format!("about {words}"),
                    "visibility": visibility,
                    "fileIds": [file],
                    "visibleUserIds": [people[ADDRESSED].id],
                    "poll": { "choices": [format!("{words} yes"), format!("{words} no")] },
                });
                if answers {
                    params["replyId"] = json!(question);
                }
                let id = app.note(&people[author], params).await.parse().unwrap();
                let note = fold::<Note>(app, &note::stream(id)).await.created.unwrap();
                written.push(Written { words, author, note });
            }
        }
    }
    written
}

/// Each author pins all of their notes, and puts them into a public clip; the first one's clip.
async fn show_off(app: &TestApp, people: &[User], written: &[Written]) -> String {
    let mut clips = Vec::new();
    for author in AUTHORS {
        let clip = json!({ "name": "all", "isPublic": true });
        let clip = app.ok(&people[author], "clips/create", clip).await["id"].as_str().unwrap().to_owned();
        for note in written.iter().filter(|note| note.author == author) {
            let id = note.note.id.to_string();
            app.ok(&people[author], "i/pin", json!({ "noteId": id })).await;
            app.ok(&people[author], "notes/reactions/create", json!({ "noteId": id, "reaction": "👍" }))
                .await;
            app.ok(&people[author], "clips/add-note", json!({ "clipId": clip, "noteId": id })).await;
        }
        clips.push(clip);
    }
    clips.remove(0)
}

/// A state as the write side has it: the log is the truth, and nothing that is tested here.
async fn fold<S: Fold>(app: &TestApp, stream: &StreamId) -> S {
    let (recorded, _) = app.app.log.stream(stream).await.unwrap();
    S::of(recorded.iter().filter_map(|recorded| recorded.event.as_ref()))
}

/// Every way to come by a note.
fn calls(
    people: &[User],
    question: &str,
    clip: &str,
    note: &Written,
    [list, antenna, channel, role]: [&str; 4],
) -> Vec<(&'static str, Value)> {
    let all = || json!({ "limit": 100 });
    let of = |id: &str| json!({ "noteId": id, "limit": 100 });
    let id = note.note.id.to_string();
    vec![
        ("admin/abuse-user-reports", all()),
        ("admin/accounts/find-by-email", json!({ "email": "nobody@example.com" })),
        ("admin/show-moderation-logs", all()),
        ("admin/show-users", all()),
        ("notes/show", json!({ "noteId": id })),
        ("notes/conversation", of(&id)),
        ("notes/children", of(question)),
        ("notes/replies", of(question)),
        ("notes/renotes", of(&id)),
        ("notes/reactions", of(&id)),
        ("notes/timeline", all()),
        ("notes/local-timeline", all()),
        ("notes/hybrid-timeline", all()),
        ("notes/global-timeline", all()),
        ("channels/timeline", json!({ "channelId": channel, "limit": 100 })),
        ("channels/show", json!({ "channelId": channel })),
        ("channels/featured", json!({})),
        ("channels/owned", all()),
        ("channels/followed", all()),
        ("channels/my-favorites", json!({})),
        ("channels/mute/list", json!({})),
        ("channels/search", json!({ "query": "channel", "limit": 100 })),
        ("antennas/notes", json!({ "antennaId": antenna, "limit": 100 })),
        ("notes/user-list-timeline", json!({ "listId": list, "limit": 100 })),
        ("notes/mentions", all()),
        ("notes/mentions", json!({ "limit": 100, "visibility": "specified" })),
        ("drive/files/attached-notes", json!({ "fileId": note.note.files[0], "limit": 100 })),
        ("users/notes", json!({ "userId": people[note.author].id, "limit": 100, "withReplies": true })),
        ("users/show", json!({ "userId": people[note.author].id })),
        ("roles/notes", json!({ "roleId": role, "limit": 100 })),
        ("roles/users", json!({ "roleId": role })),
        ("admin/roles/users", json!({ "roleId": role })),
        ("users", json!({ "limit": 100 })),
        ("users/followers", json!({ "userId": people[note.author].id, "limit": 100 })),
        ("users/following", json!({ "userId": people[FOLLOWER].id, "limit": 100 })),
        ("users/search", json!({ "query": NAMES[note.author], "limit": 100 })),
        ("users/search-by-username-and-host", json!({ "username": NAMES[note.author], "limit": 100 })),
        ("users/reactions", json!({ "userId": people[note.author].id, "limit": 100 })),
        ("hashtags/users", json!({ "tag": "words", "sort": "+follower", "limit": 100 })),
        ("notes", all()),
        ("notes/search", json!({ "query": "words", "limit": 100 })),
        ("notes/search-by-tag", json!({ "tag": "words", "limit": 100 })),
        ("notes/polls/recommendation", all()),
        ("pinned-users", json!({})),
        ("blocking/list", all()),
        ("blocking/delete", json!({ "userId": people[note.author].id })),
        ("mute/list", all()),
        ("renote-mute/list", all()),
        ("users/recommendation", all()),
        ("users/get-frequently-replied-users", json!({ "userId": people[note.author].id, "limit": 100 })),
        ("i/update-email", json!({ "password": "x" })),
        ("auth/session/userkey", json!({ "appSecret": "x", "token": "x" })),
        ("i", json!({})),
        ("i/unpin", json!({ "noteId": id })),
        ("i/pin", json!({ "noteId": id })),
        ("i/favorites", all()),
        ("notes/favorites/create", json!({ "noteId": id })),
        ("clips/notes", json!({ "clipId": clip, "limit": 100 })),
        ("i/notifications", json!({ "limit": 100, "markAsRead": false })),
        ("i/notifications-grouped", json!({ "limit": 100 })),
    ]
}

/// The paths whose replies have notes in them, by the document of the API; writes aside.
fn showing_notes() -> Vec<&'static str> {
    let registry = registry();
    let reaches_notes = |reply: &Value| {
        let (mut seen, mut queue) = (BTreeSet::new(), vec![reply.clone()]);
        while let Some(schema) = queue.pop() {
            let text = schema.to_string();
            for name in registry.schemas.keys() {
                if text.contains(&format!("#/components/schemas/{name}\"")) && seen.insert(name.clone()) {
                    queue.push(registry.schemas[name].clone());
                }
            }
        }
        seen.contains("Note")
    };
    let writes = |path: &str| ["create", "update"].iter().any(|verb| path.ends_with(verb));
    let entries = registry.entries().iter().filter(|entry| reaches_notes(&entry.reply));
    entries.map(|entry| entry.meta.path).filter(|path| !writes(path)).collect()
}
