//! People who do all kinds of things at once, on any server, and remember what they were told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::NoteId;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::memory::{
    CHANGE, DELETE, Deed, Draft, FOLLOW, Key, Memory, Ought, Outcome, Person, REACT, REACT_ANEW, State,
    UNFOLLOW, UNREACT, VOTE,
};
use crate::world::World;

/// Shared by all people.
#[derive(Clone)]
pub struct Load {
    pub world: Arc<World>,
    pub memory: Arc<Mutex<Memory>>,
    /// Requests whose answer nobody waits for any more, but that are still on their way.
    late: Arc<Mutex<Vec<JoinHandle<Outcome>>>>,
    http: reqwest::Client,
}

/// Longer than any server may take over a request while it is stopped and its database away.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// After so long people turn to something else, at another server if there is one.
const PATIENCE: Duration = Duration::from_secs(2);
const PASSWORD: &str = "correct horse battery staple";
const EMOJI: [&str; 4] = ["👍", "🎉", "🍣", "😆"];
const CHOICES: u32 = 3;
/// Targets are taken from the last so many notes.
const RECENT: usize = 200;
/// How often something that can be done is looked for.
const TRIES: usize = 20;
/// How often somebody goes on at another server.
const MOVES: f64 = 0.3;
/// How often somebody looks at once whether it shows what they did.
const LOOKS: f64 = 0.3;
/// An answer that took longer may have come before everything was shown (the product waits for 5 s).
const SHOWN_WITHIN: Duration = Duration::from_secs(4);
/// How often what must be refused is tried.
const CONTRARY: f64 = 0.1;
const AFTER_TROUBLE: Duration = Duration::from_millis(50);
/// The longest pause between two deeds of one person.
const THINKS_MILLIS: u64 = 40;

/// One request, and what depends on its answer.
struct Ask {
    endpoint: &'static str,
    body: Value,
    what: What,
    ought: Ought,
    /// The note that it is about, which must be there for it to be allowed.
    about: Option<NoteId>,
    turn: u64,
}

#[derive(Clone)]
enum What {
    Note(Draft),
    Deed(Key),
}

impl Load {
    pub fn new(world: Arc<World>) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build()?;
        Ok(Self { world, memory: Arc::default(), late: Arc::default(), http })
    }

    /// Makes the accounts and lifts the limits.
    pub async fn settle_in(&self, people: usize) -> Result<(), String> {
        let mut root: Option<Person> = None;
        for n in 0..people {
            let name = format!("person{n}");
            let mut body = json!({ "username": name, "password": PASSWORD });
            if let Some(root) = &root {
                body["i"] = json!(root.token);
            }
            let (status, made) = self.call(0, "admin/accounts/create", &body).await?;
            let text = |key: &str| made[key].as_str().unwrap_or_default().to_owned();
            let (Ok(id), 200) = (text("id").parse(), status) else {
                return Err(format!("no account for {name}: {status} {made}"));
            };
            let person = Person { id, name, token: text("token") };
            if root.is_none() {
                let unlimited = json!({ "i": person.token, "policies": { "rateLimitFactor": 0 } });
                let (status, told) = self.call(0, "admin/roles/update-default-policies", &unlimited).await?;
                if !(200..300).contains(&status) {
                    return Err(format!("limits stay: {status} {told}"));
                }
                root = Some(person.clone());
            }
            self.memory().people.push(person);
        }
        Ok(())
    }

    /// One person's life, until it is told to stop.
    pub async fn live(self, person: Person, mut rng: StdRng, stop: Arc<AtomicBool>) {
        let servers = self.world.servers.len();
        let mut at = rng.random_range(0..servers);
        while !stop.load(Ordering::Relaxed) {
            if rng.random_bool(MOVES) {
                at = rng.random_range(0..servers);
            }
            let Some(ask) = choose(&mut self.memory(), &person, &mut rng) else { continue };
            let what = ask.what.clone();
            let (began, waited_for) = (Instant::now(), Arc::new(AtomicBool::new(true)));
            let asking = self.clone().ask(at, person.clone(), ask, waited_for.clone());
            let mut asking = tokio::spawn(asking);
            let outcome = match timeout(PATIENCE, &mut asking).await {
                Ok(outcome) => outcome.expect("somebody who asks"),
                Err(_) => {
                    waited_for.store(false, Ordering::Relaxed);
                    self.late.lock().unwrap_or_else(PoisonError::into_inner).push(asking);
                    Outcome::Unknown
                }
            };
            if matches!(outcome, Outcome::Acknowledged)
                && began.elapsed() < SHOWN_WITHIN
                && rng.random_bool(LOOKS)
            {
                // A server that stands still shows nothing, and nothing wrong.
                _ = timeout(PATIENCE, self.look(rng.random_range(0..servers), &person, &what)).await;
            }
            let pause = match outcome {
                Outcome::Acknowledged | Outcome::Refused(_) => rng.random_range(0..=THINKS_MILLIS),
                Outcome::NotDone | Outcome::Unknown => {
                    at = rng.random_range(0..servers);
                    AFTER_TROUBLE.as_millis() as u64
                }
            };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Returns when no request is on its way any more.
    pub async fn finish(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for asking in late {
            asking.await.expect("somebody who asks");
        }
    }

    /// Calls an endpoint and expects an answer.
    pub async fn call(&self, server: usize, endpoint: &str, body: &Value) -> Result<(u16, Value), String> {
        let answer = self.send(server, endpoint, body).await.map_err(|error| error.to_string())?;
        Ok(answer)
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, server: usize, endpoint: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        let server = &self.world.servers[server];
        let url = format!("http://{}/api/{endpoint}", server.address);
        let request = self.http.post(url).header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await?;
        server.answered.store(true, Ordering::Relaxed);
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// What was acknowledged is in the next read, at any server.
    async fn look(&self, server: usize, person: &Person, what: &What) {
        let name = self.world.servers[server].name;
        let me = &person.token;
        let (read, expected, about) = match what {
            What::Note(draft) => {
                let found = self.memory().find(draft);
                let Some(id) = found else { return };
                let read =
                    self.call(server, "notes/show", &json!({ "i": me, "noteId": id.to_string() })).await;
                (read.map(|(status, told)| (status, told["text"].clone())), json!(draft.text), Some(id))
            }
            What::Deed(Key::User(user)) => {
                let Some(State::Says(text)) = self.memory().state(Key::User(*user)).cloned() else { return };
                let read =
                    self.call(server, "users/show", &json!({ "i": me, "userId": user.to_string() })).await;
                (read.map(|(status, told)| (status, told["description"].clone())), json!(text), None)
            }
            What::Deed(key @ Key::Relation(_, other)) => {
                let follows = self.memory().state(*key) == Some(&State::Following);
                let body = json!({ "i": me, "userId": [other.to_string()] });
                let read = self.call(server, "users/relation", &body).await;
                (read.map(|(status, told)| (status, told[0]["isFollowing"].clone())), json!(follows), None)
            }
            What::Deed(key @ Key::Reaction(note, _)) => {
                let mine = match self.memory().state(*key) {
                    Some(State::Reacted(emoji)) => json!(emoji),
                    _ => Value::Null,
                };
                let read =
                    self.call(server, "notes/show", &json!({ "i": me, "noteId": note.to_string() })).await;
                (read.map(|(status, told)| (status, told["myReaction"].clone())), mine, Some(*note))
            }
            What::Deed(Key::Note(_) | Key::Vote(..)) => return,
        };
        let mut memory = self.memory();
        let is_there = about.is_none_or(|note| memory.is_there(note));
        match read {
            Ok((200..500, found)) if is_there && found != expected => {
                let finding = format!("{} was told {expected}, and then {name} shows {found}", person.name);
                memory.findings.add(finding);
            }
            _ => {}
        }
    }

    /// Asks, and remembers what became of it.
    async fn ask(self, server: usize, person: Person, ask: Ask, waited_for: Arc<AtomicBool>) -> Outcome {
        let mut body = ask.body.clone();
        body["i"] = json!(person.token);
        let answer = self.send(server, ask.endpoint, &body).await;
        let mut memory = self.memory();
        let (outcome, told) = match answer {
            Ok((200..300, told)) => (Outcome::Acknowledged, told),
            Ok((503, told)) if told["error"]["code"] == "OVERLOADED" => (Outcome::NotDone, told),
            Ok((400..500, told)) => {
                let code = told["error"]["code"].as_str().unwrap_or("without a code").to_owned();
                (Outcome::Refused(code), told)
            }
            Ok((_, told)) => (Outcome::Unknown, told),
            Err(error) if error.is_connect() => (Outcome::NotDone, Value::Null),
            Err(error) => {
                if error.is_timeout() {
                    let endpoint = ask.endpoint;
                    memory.findings.add(format!("no answer to {endpoint} in {} s", ANSWER_WITHIN.as_secs()));
                }
                (Outcome::Unknown, Value::Null)
            }
        };
        let asked = || {
            format!("{} at {}: {} {}", person.name, self.world.servers[server].name, ask.endpoint, ask.body)
        };
        match (&outcome, ask.ought) {
            (Outcome::Acknowledged, Ought::Refuse) => {
                let finding = format!("allowed, and had to be refused: {}", asked());
                memory.findings.add(finding);
            }
            (Outcome::Refused(code), Ought::Allow) if ask.about.is_none_or(|note| memory.is_there(note)) => {
                let finding = format!("refused as {code}, and had to be allowed: {}", asked());
                memory.findings.add(finding);
            }
            _ => {}
        }
        let in_turn = waited_for.load(Ordering::Relaxed);
        match &ask.what {
            What::Note(draft) => {
                let made = &told["createdNote"];
                let id: Option<NoteId> = made["id"].as_str().and_then(|id| id.parse().ok());
                if id.is_some() && made["text"].as_str() != draft.text.as_deref() {
                    let finding = format!("the answer shows {}: {}", made["text"], asked());
                    memory.findings.add(finding);
                }
                memory.end_note(draft.clone(), ask.turn, in_turn, id, &outcome);
            }
            What::Deed(key) => memory.end(*key, in_turn, &outcome),
        }
        outcome
    }
}

/// Chooses something that this person can do now, and notes that they are about to.
fn choose(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    for _ in 0..TRIES {
        let chosen = match rng.random_range(0..100) {
            0..25 => Some(write(memory, person, rng)),
            25..40 => answer(memory, person, rng),
            40..47 => pass_on(memory, person, rng),
            47..54 => delete(memory, person, rng),
            54..70 => react(memory, person, rng),
            70..76 => unreact(memory, person, rng),
            76..84 => vote(memory, person, rng),
            84..95 => follow_or_not(memory, person, rng),
            _ => describe(memory, person),
        };
        if chosen.is_some() {
            return chosen;
        }
    }
    None
}

fn write(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Ask {
    let asks = rng.random_bool(0.3);
    let mut body = json!({});
    if asks {
        let choices: Vec<String> = (0..CHOICES).map(|n| format!("choice {n}")).collect();
        body["poll"] = json!({ "choices": choices });
    }
    note(memory, person, body, Draft { author: person.id, text: None, reply: None, renote: None, asks }, None)
}

fn answer(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let target = recent(memory, rng)?;
    let draft = Draft { author: person.id, text: None, reply: Some(target), renote: None, asks: false };
    Some(note(memory, person, json!({ "replyId": target.to_string() }), draft, Some(target)))
}

/// A renote or a quote.
fn pass_on(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let target = recent(memory, rng)?;
    let draft = Draft { author: person.id, text: None, reply: None, renote: Some(target), asks: false };
    let body = json!({ "renoteId": target.to_string() });
    if rng.random_bool(0.5) {
        return Some(note(memory, person, body, draft, Some(target)));
    }
    if memory.has_renoted(person.id, target) {
        return None;
    }
    let ought = ought_about(memory, target);
    memory.begin_note(&draft);
    let turn = memory.turn(person.id);
    Some(Ask { endpoint: "notes/create", body, what: What::Note(draft), ought, about: Some(target), turn })
}

/// A note with a text that nobody else writes.
fn note(
    memory: &mut Memory,
    person: &Person,
    mut body: Value,
    mut draft: Draft,
    about: Option<NoteId>,
) -> Ask {
    let turn = memory.turn(person.id);
    let text = format!("{} says {turn}", person.name);
    body["text"] = json!(text);
    draft.text = Some(text);
    let ought = about.map_or(Ought::Allow, |note| ought_about(memory, note));
    Ask { endpoint: "notes/create", body, what: What::Note(draft), ought, about, turn }
}

fn delete(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let target = recent(memory, rng)?;
    if memory.notes.get(&target)?.author != person.id {
        return None;
    }
    let key = Key::Note(target);
    let ought = match memory.state(key) {
        Some(State::Deleted) if !rng.random_bool(CONTRARY) => return None,
        Some(State::Deleted) => Ought::Refuse,
        _ if memory.is_there(target) => Ought::Allow,
        _ => Ought::Either,
    };
    let body = json!({ "noteId": target.to_string() });
    // It is not there any more when the answer comes, so nothing depends on that.
    deed(memory, person, "notes/delete", body, key, DELETE, State::Deleted, ought, parent(memory, target))
}

fn react(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let target = recent(memory, rng)?;
    let key = Key::Reaction(target, person.id);
    let emoji = EMOJI[rng.random_range(0..EMOJI.len())];
    let ought = ought_about(memory, target);
    let (kinds, ought) = match memory.state(key) {
        Some(State::Reacted(standing)) if *standing == emoji => {
            (REACT, if ought == Ought::Allow { Ought::Refuse } else { ought })
        }
        Some(State::Reacted(_)) => (REACT_ANEW, ought),
        _ => (REACT, ought),
    };
    let body = json!({ "noteId": target.to_string(), "reaction": emoji });
    deed(
        memory,
        person,
        "notes/reactions/create",
        body,
        key,
        kinds,
        State::Reacted(emoji),
        ought,
        Some(target),
    )
}

fn unreact(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let target = recent(memory, rng)?;
    let key = Key::Reaction(target, person.id);
    let ought = match memory.state(key) {
        Some(State::Reacted(_)) => ought_about(memory, target),
        _ if rng.random_bool(CONTRARY) => Ought::Refuse,
        _ => return None,
    };
    let body = json!({ "noteId": target.to_string() });
    let leaves = State::NotReacted;
    deed(memory, person, "notes/reactions/delete", body, key, UNREACT, leaves, ought, Some(target))
}

fn vote(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let target = recent(memory, rng)?;
    if !memory.notes.get(&target)?.asks {
        return None;
    }
    let key = Key::Vote(target, person.id);
    let ought = match memory.state(key) {
        None => ought_about(memory, target),
        Some(_) if rng.random_bool(CONTRARY) => Ought::Refuse,
        Some(_) => return None,
    };
    let choice = rng.random_range(0..CHOICES);
    let body = json!({ "noteId": target.to_string(), "choice": choice });
    let leaves = State::Voted(choice);
    deed(memory, person, "notes/polls/vote", body, key, VOTE, leaves, ought, Some(target))
}

fn follow_or_not(memory: &mut Memory, person: &Person, rng: &mut StdRng) -> Option<Ask> {
    let other = memory.people[rng.random_range(0..memory.people.len())].id;
    if other == person.id {
        return None;
    }
    let key = Key::Relation(person.id, other);
    let follows = memory.state(key) == Some(&State::Following);
    let contrary = rng.random_bool(CONTRARY);
    let ought = if contrary { Ought::Refuse } else { Ought::Allow };
    let body = json!({ "userId": other.to_string() });
    if follows == contrary {
        deed(memory, person, "following/create", body, key, FOLLOW, State::Following, ought, None)
    } else {
        deed(memory, person, "following/delete", body, key, UNFOLLOW, State::NotFollowing, ought, None)
    }
}

fn describe(memory: &mut Memory, person: &Person) -> Option<Ask> {
    let key = Key::User(person.id);
    let text = format!("{} is {}", person.name, memory.turn(person.id));
    let body = json!({ "description": text });
    deed(memory, person, "i/update", body, key, CHANGE, State::Says(text), Ought::Allow, None)
}

/// Nothing while the outcome of the last deed in the stream is unknown.
#[expect(clippy::too_many_arguments, reason = "one line for each kind of deed")]
fn deed(
    memory: &mut Memory,
    person: &Person,
    endpoint: &'static str,
    body: Value,
    key: Key,
    kinds: &'static [&'static str],
    leaves: State,
    ought: Ought,
    about: Option<NoteId>,
) -> Option<Ask> {
    if memory.is_open(key) {
        return None;
    }
    let turn = memory.turn(person.id);
    memory.begin(key, person.id, Deed { kinds, leaves, turn, in_turn: true });
    Some(Ask { endpoint, body, what: What::Deed(key), ought, about, turn })
}

fn recent(memory: &Memory, rng: &mut StdRng) -> Option<NoteId> {
    let recent = &memory.newest[memory.newest.len().saturating_sub(RECENT)..];
    (!recent.is_empty()).then(|| recent[rng.random_range(0..recent.len())])
}

fn parent(memory: &Memory, note: NoteId) -> Option<NoteId> {
    memory.parents(note).next()
}

/// What is to be said to somebody who answers, passes on, or reacts to a note.
fn ought_about(memory: &Memory, note: NoteId) -> Ought {
    let is_renote = memory.notes.get(&note).is_some_and(|draft| draft.text.is_none());
    match (memory.is_there(note), is_renote) {
        (true, false) => Ought::Allow,
        (true, true) => Ought::Refuse,
        (false, _) => Ought::Either,
    }
}
