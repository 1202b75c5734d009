//! Words between the processes that share one log: what was appended, how far projectors have come, who
//! was seen.
//!
//! A word is a hint. It may be lost, doubled or late, so whoever hears one asks the log or the tables,
//! and asks them now and then without it. Saying never waits: what can't be told yet is kept as its
//! newest state, so that a slow or absent wire costs a bounded amount and nobody a moment.
//!
//! To add a wire: tasks that take words from [`Line::unsaid`], put back what they could not send, and hand
//! what they hear to [`Line::heard`], for ever: they end with the last clone of the [`Bus`].

mod nats;
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::UserId;
use domain::log::Position;
use rand::RngExt;
use sqlx::PgPool;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

pub use self::nats::{Nats, NatsError};
use crate::log::Keyring;

/// Words that a slow hearer may leave; with more of them it has missed some.
pub const MAX_UNHEARD_WORDS: usize = 1_024;
/// People who wait to be told of; more are not told of.
pub const MAX_UNSAID_PEOPLE: usize = 4_096;
/// Projectors whose positions wait to be told.
pub const MAX_UNSAID_PROJECTORS: usize = 256;
/// The longest text of words on a wire, in bytes; a notification of PostgreSQL holds 8,000.
pub const MAX_TEXT_BYTES: usize = 4_000;
/// The longest name of a projector that is told, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// What texts of words begin with; others are not understood.
const FORM: &str = "k1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The log has something at this position.
    Appended(Position),
    /// The read tables of these projectors have passed these positions.
    Projected(Vec<(String, Position)>),
    /// These people have a stream open.
    Seen(Vec<UserId>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A word of another process.
    Word(Word),
    /// Words may have been lost: look for yourself.
    Missed,
}

/// The mouth and ears of this process. Cheap to clone: every clone is the same.
#[derive(Clone)]
pub struct Bus {
    line: Arc<Line>,
    /// When the last clone goes, so do these tasks.
    _wire: Arc<JoinSet<()>>,
}

/// What a wire works on.
struct Line {
    /// Of this process, so that it doesn't listen to itself.
    sender: u64,
    /// None when there is nobody to tell.
    unsaid: Option<Unsaid>,
    hearers: broadcast::Sender<Heard>,
}

impl Bus {
    /// For a process that is alone on its log: says nothing, hears nothing.
    pub fn local() -> Self {
        Self { line: Line::new(None), _wire: Arc::default() }
    }

    /// Over the database, with two connections beside the pool.
    pub fn postgres(pool: &PgPool) -> Self {
        let line = Line::new(Some(Unsaid::default()));
        let wire = postgres::start(&line, &pool.connect_options());
        Self { line, _wire: Arc::new(wire) }
    }

    /// Over NATS, on a subject of this server alone; only those with the same keyring are heard.
    pub fn nats(nats: Nats, subject: String, keyring: Arc<Keyring>) -> Self {
        let line = Line::new(Some(Unsaid::default()));
        let wire = nats::start(&line, nats, subject, keyring);
        Self { line, _wire: Arc::new(wire) }
    }

    /// Whether there may be other processes to talk to.
    pub fn is_shared(&self) -> bool {
        self.line.unsaid.is_some()
    }

    /// Tells the other processes, soon and perhaps.
    pub fn say(&self, word: Word) {
        if let Some(unsaid) = &self.line.unsaid {
            unsaid.words().add(word);
            unsaid.added.notify_one();
        }
    }

    /// Hears the other processes from now on. A receiver that lags has missed words.
    pub fn hear(&self) -> broadcast::Receiver<Heard> {
        self.line.hearers.subscribe()
    }
}

impl Line {
    fn new(unsaid: Option<Unsaid>) -> Arc<Self> {
        let hearers = broadcast::Sender::new(MAX_UNHEARD_WORDS);
        Arc::new(Self { sender: rand::rng().random(), unsaid, hearers })
    }

    /// Waits for words that are not said yet, and takes them.
    async fn unsaid(&self) -> Words {
        let Some(unsaid) = &self.unsaid else { return std::future::pending().await };
        loop {
            let words = std::mem::take(&mut *unsaid.words());
            if !words.is_empty() {
                return words;
            }
            unsaid.added.notified().await;
        }
    }

    /// Takes words back that could not be said, to be said with those that came since.
    fn put_back(&self, words: Words) {
        if let Some(unsaid) = &self.unsaid {
            unsaid.words().merge(words);
            unsaid.added.notify_one();
        }
    }

    /// Passes on what came over the wire.
    fn heard(&self, text: &str) {
        let Some((sender, words)) = read(text) else {
            tracing::debug!(bytes = text.len(), "words that are not understood");
            return;
        };
        if sender != self.sender {
            for word in words.into_words() {
                _ = self.hearers.send(Heard::Word(word));
            }
        }
    }

    /// To be called when the wire is there again after it was not.
    fn missed(&self) {
        _ = self.hearers.send(Heard::Missed);
    }
}

#[derive(Default)]
struct Unsaid {
    words: Mutex<Words>,
    added: Notify,
}

impl Unsaid {
    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest of all that is to be said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    appended: Option<Position>,
    projected: BTreeMap<String, Position>,
    seen: BTreeSet<UserId>,
}

impl Words {
    fn is_empty(&self) -> bool {
        self.appended.is_none() && self.projected.is_empty() && self.seen.is_empty()
    }

    fn add(&mut self, word: Word) {
        match word {
            Word::Appended(position) => self.appended = self.appended.max(Some(position)),
            Word::Projected(positions) => {
                for (name, position) in positions {
                    if !self.projected.contains_key(&name)
                        && (self.projected.len() >= MAX_UNSAID_PROJECTORS || !is_a_name(&name))
                    {
                        continue;
                    }
                    let newest = self.projected.entry(name).or_insert(position);
                    *newest = position.max(*newest);
                }
            }
            Word::Seen(people) => {
                let room = MAX_UNSAID_PEOPLE.saturating_sub(self.seen.len());
                self.seen.extend(people.into_iter().take(room));
            }
        }
    }

    fn merge(&mut self, older: Words) {
        for word in older.into_words() {
            self.add(word);
        }
    }

    fn into_words(self) -> impl Iterator<Item = Word> {
        let Words { appended, projected, seen } = self;
        let projected = (!projected.is_empty()).then(|| Word::Projected(projected.into_iter().collect()));
        let seen = (!seen.is_empty()).then(|| Word::Seen(seen.into_iter().collect()));
        [appended.map(Word::Appended), projected, seen].into_iter().flatten()
    }

    /// As texts for a wire, none longer than [`MAX_TEXT_BYTES`]: `k1 SENDER aPOSITION pNAME=POSITION sID`.
    fn texts(&self, sender: u64) -> Vec<String> {
        let appended = self.appended.iter().map(|position| format!("a{position}"));
        let projected = self.projected.iter().map(|(name, position)| format!("p{name}={position}"));
        let seen = self.seen.iter().map(|user| format!("s{user}"));
        let mut texts: Vec<String> = Vec::new();
        for item in appended.chain(projected).chain(seen) {
            match texts.last_mut() {
                Some(text) if text.len() + 1 + item.len() <= MAX_TEXT_BYTES => {
                    _ = write!(text, " {item}");
                }
                _ => texts.push(format!("{FORM} {sender:x} {item}")),
            }
        }
        texts
    }
}

fn is_a_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(allowed)
}

/// Who said what. Items of kinds that are not known are passed over: a later version may say more.
fn read(text: &str) -> Option<(u64, Words)> {
    let mut items = text.split(' ');
    let sender = match items.next() {
        Some(FORM) => u64::from_str_radix(items.next()?, 16).ok()?,
        _ => return None,
    };
    let mut words = Words::default();
    for item in items {
        if let Some(position) = item.strip_prefix('a') {
            words.add(Word::Appended(position_of(position)?));
        } else if let Some((name, position)) = item.strip_prefix('p').and_then(|item| item.split_once('=')) {
            words.add(Word::Projected(vec![(name.to_owned(), position_of(position)?)]));
        } else if let Some(user) = item.strip_prefix('s') {
            words.add(Word::Seen(vec![UserId::from_str(user).ok()?]));
        }
    }
    Some((sender, words))
}

fn position_of(text: &str) -> Option<Position> {
    text.parse().ok().map(Position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn all() -> Words {
        let mut words = Words::default();
        words.add(Word::Appended(Position(7)));
        words
            .add(Word::Projected(vec![("notes".to_owned(), Position(6)), ("users".to_owned(), Position(5))]));
        words.add(Word::Seen(vec![user(1), user(2)]));
        words
    }

    #[test]
    fn only_the_newest_is_kept_in_any_order() {
        let mut words = all();
        words.add(Word::Appended(Position(3)));
        words
            .add(Word::Projected(vec![("notes".to_owned(), Position(9)), ("users".to_owned(), Position(1))]));
        words.add(Word::Projected(vec![("not a name".to_owned(), Position(9))]));
        words.merge(all());
        assert_eq!(words.appended, Some(Position(7)));
        let told: Vec<Word> = words.into_words().collect();
        let notes_and_users = vec![("notes".to_owned(), Position(9)), ("users".to_owned(), Position(5))];
        assert!(told.contains(&Word::Projected(notes_and_users)), "{told:?}");
    }

    #[test]
    fn what_is_written_is_read_and_what_is_not_known_is_passed_over() {
        let texts = all().texts(0xabc);
        let [text] = texts.as_slice() else { panic!("{texts:?}") };
        assert_eq!(read(text), Some((0xabc, all())));
        assert_eq!(read(&format!("{text} zsomething")), Some((0xabc, all())));
        for broken in ["", "k2 abc a1", "k1", "k1 xyz a1", "k1 abc a-1", "k1 abc pnotes=x", "k1 abc s!"] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn many_words_take_many_texts_and_too_many_are_left_out() {
        let mut words = Words::default();
        for n in 0..=MAX_UNSAID_PEOPLE as u128 {
            words.add(Word::Seen(vec![user(n)]));
        }
        let texts = words.texts(u64::MAX);
        assert!(texts.iter().all(|text| text.len() <= MAX_TEXT_BYTES));
        let read: usize = texts.iter().map(|text| read(text).unwrap().1.seen.len()).sum();
        assert_eq!(read, MAX_UNSAID_PEOPLE);
    }

    #[tokio::test]
    async fn alone_there_is_nothing_to_hear() {
        let bus = Bus::local();
        let mut heard = bus.hear();
        bus.say(Word::Appended(Position(1)));
        assert!(!bus.is_shared());
        assert!(heard.try_recv().is_err());
    }
}
