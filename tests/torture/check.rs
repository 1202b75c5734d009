//! Compares the log and the read tables with what is remembered, word for word.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;

use domain::{NoteId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Findings;
use crate::memory::{Deed, Draft, Key, Lost, Memory, State, WRITE};

/// One event, without its payload.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LogRow {
    pub position: i64,
    pub ordinal: i32,
    pub stream: String,
    pub version: i64,
    pub kind: String,
    pub actor: Option<Uuid>,
    pub command: Uuid,
}

/// A note as the read tables have it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct NoteRow {
    pub id: Uuid,
    pub author: Uuid,
    pub text: Option<String>,
    pub reply_id: Option<Uuid>,
    pub renote_id: Option<Uuid>,
    pub asks: bool,
    pub replies: i64,
    pub renotes: i64,
}

/// The read tables.
#[derive(Debug, Default)]
pub struct Tables {
    pub notes: Vec<NoteRow>,
    pub note_authors: Vec<(Uuid, i64)>,
    pub reactions: Vec<(Uuid, Uuid, String)>,
    pub reaction_counts: Vec<(Uuid, String, i64)>,
    pub votes: Vec<(Uuid, Uuid, i32)>,
    pub vote_counts: Vec<(Uuid, i32, i64)>,
    pub follows: Vec<(Uuid, Uuid)>,
    /// Person, followers, following.
    pub follow_counts: Vec<(Uuid, i64, i64)>,
    /// Person and description.
    pub users: Vec<(Uuid, Option<String>)>,
}

/// The log against memory, which then knows what became of everything that had no answer.
pub fn log(rows: &[LogRow], notes: &[NoteRow], memory: &mut Memory, findings: &mut Findings) {
    let appends = appends(rows, findings);
    let mut by_stream: HashMap<&str, Vec<&Append<'_>>> = HashMap::new();
    for append in &appends {
        if is_ours(append.stream, &append.kinds) {
            by_stream.entry(append.stream).or_default().push(append);
        }
    }
    for (key, stream) in &mut memory.streams {
        let found = by_stream.get(key.name().as_str()).map_or(0, Vec::len);
        if let Some(deed) = stream.open.take()
            && found > stream.done.len()
        {
            // It had no answer, and happened.
            stream.done.push(Deed { in_turn: false, ..deed });
        }
    }
    find_lost_notes(&appends, notes, memory, findings);
    let mut placed: HashMap<UserId, Vec<(u64, bool, i64)>> = HashMap::new();
    for (key, stream) in &memory.streams {
        let name = key.name();
        let appends = by_stream.remove(name.as_str()).unwrap_or_default();
        let asked: Vec<_> = stream.done.iter().map(|deed| deed.kinds.to_vec()).collect();
        let found: Vec<_> = appends.iter().map(|append| append.kinds.clone()).collect();
        if asked != found {
            findings.add(format!("{name}: {asked:?} was done, the log has {found:?}"));
            continue;
        }
        for (deed, append) in stream.done.iter().zip(appends) {
            if append.actor != Some(stream.person.0) {
                findings.add(format!("{name}: {:?} did what {} did", append.actor, stream.person));
            }
            let place = (deed.turn, deed.in_turn, append.position);
            placed.entry(stream.person).or_default().push(place);
        }
    }
    for (name, appends) in by_stream {
        let found: Vec<_> = appends.iter().map(|append| (append.position, append.kinds.clone())).collect();
        findings.add(format!("{name}: nobody asked for {found:?}"));
    }
    for (person, mut places) in placed {
        places.sort_unstable();
        let mut last = 0;
        for (turn, in_turn, position) in places {
            if position <= last {
                findings.add(format!("{person}: turn {turn} is at {position}, an earlier one at {last}"));
            }
            if in_turn {
                last = last.max(position);
            }
        }
    }
}

/// The read tables against memory, in which nothing is open any more.
pub fn tables(tables: &Tables, memory: &Memory, findings: &mut Findings) {
    let there: HashSet<NoteId> = memory.notes.keys().copied().filter(|id| !memory.is_gone(*id)).collect();
    notes(tables, memory, &there, findings);

    let mut standing = BTreeMap::new();
    let mut kinds: BTreeMap<(Uuid, String), i64> = BTreeMap::new();
    let mut chosen = BTreeMap::new();
    let mut choices: BTreeMap<(Uuid, i32), i64> = BTreeMap::new();
    for (key, stream) in &memory.streams {
        match (key, stream.done.last().map(|deed| &deed.leaves)) {
            (Key::Reaction(note, user), Some(State::Reacted(emoji))) => {
                standing.insert((note.0, user.0), (*emoji).to_owned());
                *kinds.entry((note.0, (*emoji).to_owned())).or_default() += 1;
            }
            (Key::Vote(note, user), Some(State::Voted(choice))) => {
                chosen.insert((note.0, user.0), *choice as i32);
                *choices.entry((note.0, *choice as i32)).or_default() += 1;
            }
            _ => {}
        }
    }
    let rows = tables.reactions.iter().map(|(note, user, emoji)| ((*note, *user), emoji.clone()));
    compare("reactions", standing, rows, findings);
    let rows = tables.reaction_counts.iter().filter(|(_, _, n)| *n != 0);
    compare("reaction_counts", kinds, rows.map(|(note, kind, n)| ((*note, kind.clone()), *n)), findings);
    compare("votes", chosen, tables.votes.iter().map(|(note, user, c)| ((*note, *user), *c)), findings);
    compare(
        "vote_counts",
        choices,
        tables.vote_counts.iter().map(|(note, c, n)| ((*note, *c), *n)),
        findings,
    );
    follows(tables, memory, findings);

    let says = memory.people.iter().map(|person| {
        let said = match memory.state(Key::User(person.id)) {
            Some(State::Says(text)) => Some(text.clone()),
            _ => None,
        };
        (person.id.0, said)
    });
    compare("users", says.collect(), tables.users.iter().cloned(), findings);
}

pub async fn read_log(connection: &mut PgConnection) -> sqlx::Result<Vec<LogRow>> {
    sqlx::query_as(
        "select position, ordinal, stream, version, kind, actor, command
           from log.events order by position, ordinal",
    )
    .fetch_all(connection)
    .await
}

/// All tables at one moment.
pub async fn read_tables(connection: &mut PgConnection) -> sqlx::Result<Tables> {
    sqlx::query("begin isolation level repeatable read, read only").execute(&mut *connection).await?;
    let notes = sqlx::query_as(
        "select id, author, text, reply_id, renote_id, poll is not null as asks, replies, renotes
           from read.notes",
    )
    .fetch_all(&mut *connection)
    .await?;
    let note_authors =
        sqlx::query_as("select user_id, notes from read.note_authors").fetch_all(&mut *connection).await?;
    let reactions = sqlx::query_as("select note_id, user_id, reaction from read.reactions")
        .fetch_all(&mut *connection)
        .await?;
    let reaction_counts = sqlx::query_as("select note_id, reaction, reactions from read.reaction_counts")
        .fetch_all(&mut *connection)
        .await?;
    let votes =
        sqlx::query_as("select note_id, user_id, choice from read.votes").fetch_all(&mut *connection).await?;
    let vote_counts = sqlx::query_as("select note_id, choice, votes from read.vote_counts")
        .fetch_all(&mut *connection)
        .await?;
    let follows =
        sqlx::query_as("select follower, followee from read.follows").fetch_all(&mut *connection).await?;
    let follow_counts = sqlx::query_as("select user_id, followers, following from read.follow_counts")
        .fetch_all(&mut *connection)
        .await?;
    let users = sqlx::query_as("select id, profile->>'description' from read.users")
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query("commit").execute(connection).await?;
    Ok(Tables {
        notes,
        note_authors,
        reactions,
        reaction_counts,
        votes,
        vote_counts,
        follows,
        follow_counts,
        users,
    })
}

/// The events of one position.
struct Append<'a> {
    position: i64,
    stream: &'a str,
    kinds: Vec<&'a str>,
    actor: Option<Uuid>,
}

/// Streams that are written by what is remembered. A person's own also begins with the making of the account.
fn is_ours(stream: &str, kinds: &[&str]) -> bool {
    match stream.split_once('-').map(|(family, _)| family) {
        Some("note" | "reaction" | "vote" | "relation") => true,
        Some("user") => kinds == ["user.changed"],
        _ => false,
    }
}

/// Cuts the log into appends, and looks at what holds for any log.
fn appends<'a>(rows: &'a [LogRow], findings: &mut Findings) -> Vec<Append<'a>> {
    let mut appends: Vec<Append<'a>> = Vec::new();
    let mut versions: HashMap<&str, i64> = HashMap::new();
    let mut commands: HashMap<Uuid, i64> = HashMap::new();
    for row in rows {
        let LogRow { position, ordinal, .. } = row;
        let version = versions.entry(&row.stream).or_default();
        if row.version != *version + 1 {
            findings.add(format!("{}: version {} comes after {version}", row.stream, row.version));
        }
        *version = row.version;
        match appends.last_mut() {
            Some(last) if last.position == *position => {
                let expected = last.kinds.len() as i32;
                if *ordinal != expected || last.stream != row.stream {
                    findings.add(format!("{position}.{ordinal} is not the rest of its append"));
                }
                last.kinds.push(&row.kind);
            }
            last => {
                let expected = last.map_or(0, |append| append.position) + 1;
                if (*position, *ordinal) != (expected, 0) {
                    findings.add(format!("the log goes on at {position}.{ordinal} instead of {expected}.0"));
                }
                let (stream, kinds) = (row.stream.as_str(), vec![row.kind.as_str()]);
                appends.push(Append { position: *position, stream, kinds, actor: row.actor });
                if let Some(first) = commands.insert(row.command, *position) {
                    findings.add(format!("one command was appended twice, at {first} and {position}"));
                }
            }
        }
    }
    appends
}

/// Notes of which nobody was told the id: those that are there are found by their text, or by who renoted
/// what. One that can't be found went with what it answered or passed on.
fn find_lost_notes(appends: &[Append<'_>], notes: &[NoteRow], memory: &mut Memory, findings: &mut Findings) {
    // In the order of the log.
    let mut unknown: Vec<(NoteId, UserId)> = Vec::new();
    for append in appends.iter().filter(|append| append.kinds == WRITE) {
        let id = append.stream.split_once('-').and_then(|(_, id)| id.parse::<NoteId>().ok());
        if let (Some(id), Some(actor)) = (id, append.actor)
            && !memory.notes.contains_key(&id)
        {
            unknown.push((id, UserId(actor)));
        }
    }
    let mut by_text: HashMap<&str, Vec<&NoteRow>> = HashMap::new();
    let mut by_renote: HashMap<(Uuid, Uuid), Vec<&NoteRow>> = HashMap::new();
    for row in notes {
        match (&row.text, row.renote_id) {
            (Some(text), _) => by_text.entry(text).or_default().push(row),
            (None, Some(renote)) => by_renote.entry((row.author, renote)).or_default().push(row),
            (None, None) => {}
        }
    }
    let mut unseen: Vec<Lost> = Vec::new();
    for lost in std::mem::take(&mut memory.lost) {
        let draft = &lost.draft;
        let found = match (&draft.text, draft.renote) {
            (Some(text), _) => by_text.get(text.as_str()),
            (None, Some(renote)) => by_renote.get(&(draft.author.0, renote.0)),
            (None, None) => None,
        };
        match found.map(Vec::as_slice) {
            None | Some([]) => unseen.push(lost),
            Some([row]) => {
                let (id, asked) = (NoteId(row.id), (NoteId(row.id), draft.author));
                match unknown.iter().position(|known| *known == asked) {
                    Some(index) => _ = unknown.remove(index),
                    None => findings.add(format!("note {id} is shown, and its writing is not in the log")),
                }
                memory.add_note(id, lost.draft, lost.turn, false);
            }
            Some(rows) => findings.add(format!("{draft:?} was written {} times", rows.len())),
        }
    }
    for (id, author) in unknown {
        let went_along = |lost: &Lost| {
            let mut parents = lost.draft.reply.into_iter().chain(lost.draft.renote);
            lost.draft.author == author && parents.any(|parent| memory.is_gone(parent))
        };
        match unseen.iter().position(went_along) {
            Some(index) => {
                let lost = unseen.remove(index);
                memory.add_note(id, lost.draft, lost.turn, false);
            }
            None => findings.add(format!("nobody knows of note {id} of {author}")),
        }
    }
    for lost in unseen {
        if lost.acknowledged {
            findings.add(format!("{:?} was acknowledged, and is nowhere", lost.draft));
        }
        memory.forget(&lost.draft);
    }
}

fn notes(tables: &Tables, memory: &Memory, there: &HashSet<NoteId>, findings: &mut Findings) {
    let mut replies: HashMap<NoteId, i64> = HashMap::new();
    let mut renotes: HashMap<NoteId, i64> = HashMap::new();
    let mut authors: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (id, draft) in &memory.notes {
        // What was deleted still counts as written.
        *authors.entry(draft.author.0).or_default() += 1;
        if let Some(reply) = draft.reply.filter(|_| there.contains(id)) {
            *replies.entry(reply).or_default() += 1;
        }
        // A renote that is taken back still counts; one's own never does.
        if let Some(renote) = draft.renote
            && memory.notes.get(&renote).is_some_and(|original| original.author != draft.author)
        {
            *renotes.entry(renote).or_default() += 1;
        }
    }
    let expected = there.iter().map(|id| {
        let draft = memory.notes[id].clone();
        let counts =
            (replies.get(id).copied().unwrap_or_default(), renotes.get(id).copied().unwrap_or_default());
        (id.0, (draft, counts))
    });
    let rows = tables.notes.iter().map(|row| {
        let draft = Draft {
            author: UserId(row.author),
            text: row.text.clone(),
            reply: row.reply_id.map(NoteId),
            renote: row.renote_id.map(NoteId),
            asks: row.asks,
        };
        (row.id, (draft, (row.replies, row.renotes)))
    });
    compare("notes", expected.collect(), rows, findings);
    compare("note_authors", authors, tables.note_authors.iter().copied(), findings);
}

fn follows(tables: &Tables, memory: &Memory, findings: &mut Findings) {
    let mut pairs = BTreeMap::new();
    let mut counts: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    for from in &memory.people {
        for to in &memory.people {
            if memory.state(Key::Relation(from.id, to.id)) == Some(&State::Following) {
                pairs.insert((from.id.0, to.id.0), ());
                counts.entry(to.id.0).or_default().0 += 1;
                counts.entry(from.id.0).or_default().1 += 1;
            }
        }
    }
    compare("follows", pairs, tables.follows.iter().map(|pair| (*pair, ())), findings);
    let rows =
        tables.follow_counts.iter().filter(|(_, followers, following)| (*followers, *following) != (0, 0));
    compare("follow_counts", counts, rows.map(|(user, to, from)| (*user, (*to, *from))), findings);
}

fn compare<K: Ord + Debug, V: PartialEq + Debug>(
    table: &str,
    mut expected: BTreeMap<K, V>,
    rows: impl Iterator<Item = (K, V)>,
    findings: &mut Findings,
) {
    for (key, found) in rows {
        match expected.remove(&key) {
            Some(value) if value == found => {}
            Some(value) => findings.add(format!("{table}: {key:?} is {found:?} and not {value:?}")),
            None => findings.add(format!("{table}: {key:?} {found:?} should not be there, or once only")),
        }
    }
    for (key, value) in expected {
        findings.add(format!("{table}: {key:?} {value:?} is missing"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Outcome, Person, REACT};

    /// One person writes two notes and reacts to the first, a third note got no answer.
    struct Story {
        memory: Memory,
        log: Vec<LogRow>,
        tables: Tables,
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn draft(text: &str) -> Draft {
        Draft { author: UserId(id(1)), text: Some(text.to_owned()), reply: None, renote: None, asks: false }
    }

    fn story() -> Story {
        let (author, first, second) = (UserId(id(1)), NoteId(id(11)), NoteId(id(12)));
        let mut memory = Memory::default();
        memory.people.push(Person { id: author, name: "one".to_owned(), token: String::new() });
        memory.add_note(first, draft("first"), 1, true);
        memory.add_note(second, draft("second"), 2, true);
        let key = Key::Reaction(first, author);
        let leaves = State::Reacted("👍");
        memory.begin(key, author, Deed { kinds: REACT, leaves, turn: 3, in_turn: true });
        memory.end(key, true, &Outcome::Acknowledged);
        memory.end_note(draft("third"), 4, true, None, &Outcome::Unknown);
        let row = |position: i64, stream: String, kind: &str| LogRow {
            position,
            ordinal: 0,
            stream,
            version: 1,
            kind: kind.to_owned(),
            actor: Some(author.0),
            command: id(position as u128),
        };
        let log = vec![
            row(1, Key::Note(first).name(), "note.created"),
            row(2, Key::Note(second).name(), "note.created"),
            row(3, key.name(), "reaction.added"),
        ];
        let note = |note: NoteId, text: &str| NoteRow {
            id: note.0,
            author: author.0,
            text: Some(text.to_owned()),
            reply_id: None,
            renote_id: None,
            asks: false,
            replies: 0,
            renotes: 0,
        };
        let tables = Tables {
            notes: vec![note(first, "first"), note(second, "second")],
            note_authors: vec![(author.0, 2)],
            reactions: vec![(first.0, author.0, "👍".to_owned())],
            reaction_counts: vec![(first.0, "👍".to_owned(), 1)],
            users: vec![(author.0, None)],
            ..Tables::default()
        };
        Story { memory, log, tables }
    }

    /// What is told when the story is changed so.
    fn told(change: impl FnOnce(&mut Story)) -> String {
        let Story { mut memory, log: rows, tables: read } = {
            let mut story = story();
            change(&mut story);
            story
        };
        let mut findings = Findings::default();
        log(&rows, &read.notes, &mut memory, &mut findings);
        tables(&read, &memory, &mut findings);
        findings.into_lines().join("\n")
    }

    /// The third note, as it stands when it was written after all.
    fn third(story: &mut Story, n: u128) {
        let (mut event, mut row) = (story.log[1].clone(), story.tables.notes[1].clone());
        row.id = id(n);
        row.text = Some("third".to_owned());
        event.stream = Key::Note(NoteId(row.id)).name();
        event.position = story.log.len() as i64 + 1;
        event.command = id(event.position as u128);
        story.log.push(event);
        story.tables.notes.push(row);
        story.tables.note_authors[0].1 += 1;
    }

    #[test]
    fn what_was_acknowledged_is_there_and_what_was_not_may_be() {
        assert_eq!(told(|_| ()), "");
        assert_eq!(told(|story| third(story, 13)), "");
    }

    #[test]
    fn a_lost_event_is_told() {
        let lost = |n: usize| told(|story| _ = story.log.remove(n));
        assert!(lost(2).contains("reaction-"), "{}", lost(2));
        assert!(lost(0).contains("instead of 1.0") && lost(0).contains("the log has []"), "{}", lost(0));
    }

    #[test]
    fn a_doubled_event_is_told() {
        let told = told(|story| {
            third(story, 13);
            third(story, 14);
        });
        assert!(told.contains("was written 2 times"), "{told}");
    }

    #[test]
    fn an_event_that_nobody_asked_for_is_told() {
        let told = told(|story| {
            let mut event = story.log[2].clone();
            (event.position, event.version, event.command) = (4, 2, id(4));
            story.log.push(event);
        });
        assert!(told.contains("the log has"), "{told}");
    }

    #[test]
    fn events_in_another_order_are_told() {
        let told = told(|story| {
            story.log.swap(0, 1);
            (story.log[0].position, story.log[1].position) = (1, 2);
        });
        assert!(told.contains("turn 2 is at 1, an earlier one at 2"), "{told}");
    }

    #[test]
    fn what_is_wrong_with_any_log_is_told() {
        let version = told(|story| story.log[1].version = 2);
        assert!(version.contains("version 2 comes after 0"), "{version}");
        let command = told(|story| story.log[1].command = id(1));
        assert!(command.contains("appended twice, at 1 and 2"), "{command}");
        let actor = told(|story| story.log[1].actor = Some(id(9)));
        assert!(actor.contains("did what"), "{actor}");
    }

    #[test]
    fn a_read_table_that_differs_is_told() {
        type Change = fn(&mut Tables);
        let changes: [(Change, &str); 6] = [
            (|tables| _ = tables.notes.pop(), "is missing"),
            (|tables| tables.notes[0].text = Some("fist".to_owned()), "notes:"),
            (|tables| tables.notes[0].replies = 1, "notes:"),
            (|tables| tables.reactions.push(tables.reactions[0].clone()), "once only"),
            (|tables| tables.reaction_counts[0].2 = 2, "reaction_counts:"),
            (|tables| tables.follows.push((id(1), id(2))), "should not be there"),
        ];
        for (change, expected) in changes {
            let told = told(|story| change(&mut story.tables));
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }

    #[test]
    fn what_was_acknowledged_without_an_id_must_be_there() {
        let told = told(|story| story.memory.lost[0].acknowledged = true);
        assert!(told.contains("is nowhere"), "{told}");
    }
}
