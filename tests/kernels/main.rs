//! What the inner parts take alone, without a database or HTTP: folding, the policy, MFM, appending, and making
//! the JSON of a page.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "there is nobody to be told but who runs it")]

use std::hint::black_box;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use commands::log::{Keyring, MemoryLog};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domain::log::{By, EventLog, Ids, Version};
use domain::note::{Created, Visibility, stream};
use domain::policy::{AuthorRules, Between, Company, Facts, Place, Stance, may_see, wants};
use domain::user::{Profile, User};
use domain::{CommandId, Event, Fold, NoteId, UserId, mfm};
use futures_util::future::try_join_all;
use gateway::json::{self, Look};
use gateway::presence::Presence;
use gateway::system::TimeOrderedIds;
use projections::World;
use projections::world::{NoteRow, UserRow};
use serde_json::{Value, json};

/// Notes on a page, and people who write them.
const PAGE: usize = 20;
const AUTHORS: usize = 5;
/// Appends at once, and bytes of each event.
const APPENDS: usize = 64;
const EVENT: usize = 300;
/// How often a person has changed their profile.
const CHANGES: usize = 100;

const PLAIN: &str =
    "今日は良い天気。a cup of tea in the rain, and then the train home through the winter garden";
const MARKED: &str = "@alice and @bob@remote.example: **a cup of** $[tada.speed=2s <i>tea</i>] in the #rain :blobcat:\n\
                      > quoted, with `code` and [a link](https://example.com/a?b=c)\nhttps://example.com/ 🎉";

criterion_group!(kernels, fold, policy, parse, append, pack);
criterion_main!(kernels);

fn fold(criterion: &mut Criterion) {
    let user = Ids::at(&TimeOrderedIds::new(), now());
    let event =
        |kind: &str, payload: Value| Event::from_json(kind, 1, payload.to_string().as_bytes()).unwrap();
    let created = event("user.created", json!({ "user": UserId(user), "username": "alice" }));
    let changed = |n| {
        let changes = json!({ "name": format!("Alice {n}"), "description": PLAIN, "is_locked": n % 2 == 0 });
        event("user.changed", json!({ "user": UserId(user), "changes": changes }))
    };
    let events: Vec<Event> = std::iter::once(created).chain((1..CHANGES).map(changed)).collect();
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("a person of 100 events", |b| b.iter(|| User::of(black_box(&events))));
    group.finish();
}

fn policy(criterion: &mut Criterion) {
    let (people, notes) = (people(), notes(&people()));
    let (viewer, now) = (Some(people[0].id), now());
    let between = Between { viewer_follows_author: true };
    let mut group = criterion.benchmark_group("policy");
    group.throughput(Throughput::Elements(notes.len() as u64));
    group.bench_function("who may see a page of notes, and wants to", |b| {
        b.iter(|| {
            let is_shown = |note: &&Created| {
                let (facts, company) = (Facts::of(note, AuthorRules::default()), Company::of(note, false));
                may_see(viewer, &facts, between, now)
                    && wants(viewer, &company, Place::Anywhere, |_| Stance::default())
            };
            black_box(&notes).iter().filter(is_shown).count()
        });
    });
    group.finish();
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mfm");
    for (name, text) in [("plain", PLAIN), ("marked up", MARKED)] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| mfm::parse(black_box(text))));
    }
    group.finish();
}

/// Sealed as for any log, and kept in memory.
fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (keyring, ids, now) = (Arc::new(Keyring::memory()), TimeOrderedIds::new(), now());
    let author = UserId(ids.at(now));
    let one = |_| {
        let mut note = Created { text: Some(String::new()), ..note(NoteId(ids.at(now)), author) };
        let bare = serde_json::to_vec(&note).unwrap().len();
        note.text = Some("x".repeat(EVENT - bare));
        let by = By { user: Some(author), now, command: CommandId(ids.at(now)) };
        (stream(note.id), by, vec![Event::from(note)])
    };
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(APPENDS as u64));
    group.bench_function("64 events of 300 bytes", |b| {
        let fresh = || (MemoryLog::new(keyring.clone()), (0..APPENDS).map(one).collect::<Vec<_>>());
        b.iter_batched(
            fresh,
            |(log, appends)| {
                let appends = appends
                    .iter()
                    .map(|(stream, by, events)| log.append(stream, Version::NONE, by, events.clone()));
                runtime.block_on(try_join_all(appends)).unwrap();
                log
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn pack(criterion: &mut Criterion) {
    let people = people();
    let rows: Vec<NoteRow> = notes(&people).iter().filter_map(row).collect();
    let ids: Vec<NoteId> = rows.iter().map(|row| row.id).collect();
    let world = World::of(Some(people[0].id), now(), rows, people);
    let presence = Presence::default();
    let look = Look { origin: "https://bench.example", presence: &presence, now: now() };
    let page = || -> Vec<_> { ids.iter().filter_map(|id| json::note::note(&look, &world, *id)).collect() };
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("a page of notes", |b| b.iter(|| serde_json::to_vec(&page()).unwrap()));
    group.finish();
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn people() -> Vec<UserRow> {
    let ids = TimeOrderedIds::new();
    let person = |n| {
        let profile = Profile { name: Some(format!("Person {n}")), ..Profile::default() };
        UserRow {
            id: UserId(ids.at(now())),
            username: format!("person{n}"),
            host: None,
            uri: None,
            profile: profile.into(),
            is_root: false,
            followers: 50,
            following: 50,
            notes: 100,
            updated_at: None,
            counted_to: domain::log::Position::START,
            active_days: 10,
            roles: Vec::new(),
            is_silenced: false,
            is_suspended: false,
            decorations: Vec::new(),
            moderation_note: String::new(),
        }
    };
    (0..AUTHORS).map(person).collect()
}

/// Public ones and such for followers, in turn by these people.
fn notes(people: &[UserRow]) -> Vec<Created> {
    let ids = TimeOrderedIds::new();
    let one = |n: usize| Created {
        text: Some(MARKED.to_owned()),
        visibility: if n.is_multiple_of(4) { Visibility::Followers } else { Visibility::Public },
        ..note(NoteId(ids.at(now())), people[n % people.len()].id)
    };
    (0..PAGE).map(one).collect()
}

fn note(id: NoteId, author: UserId) -> Created {
    Created {
        id,
        author,
        text: None,
        cw: None,
        visibility: Visibility::Public,
        local_only: false,
        reaction_acceptance: None,
        reply: None,
        renote: None,
        thread: None,
        mentions: Vec::new(),
        visible_to: Vec::new(),
        tags: Vec::new(),
        emojis: Vec::new(),
        poll: None,
        files: Vec::new(),
        channel: None,
        uri: None,
    }
}

fn row(note: &Created) -> Option<NoteRow> {
    NoteRow::of(note).map(|row| NoteRow { replies: 1, renotes: 1, ..row })
}
