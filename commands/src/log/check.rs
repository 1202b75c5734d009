//! Reads a whole log once and says what is wrong with it.
//!
//! It reads as the engine keeps the events, so it needs nothing of the read models, and it may run while
//! others write: it goes as far as the log had come when it began. It holds in memory about 60 bytes for
//! each stream and 20 for each append.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use domain::CommandId;
use domain::log::{LogError, Position};
use futures_util::{TryFutureExt, try_join};
use serde::Serialize;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::codec::{self, DIGEST_BYTES, Sealed, digest};
use super::keys::{DataKey, Keyring};
use super::{Engine, Link, Progress, Step};

/// The most faults that are kept; more are only counted.
pub const MAX_FAULTS_SHOWN: usize = 100;
/// Events read at once.
const PAGE_EVENTS: usize = 4096;
/// The hash before the first link.
const CHAIN_BEGINS: [u8; DIGEST_BYTES] = [0; DIGEST_BYTES];

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub appends: u64,
    pub events: u64,
    /// Of the events, those whose key is destroyed.
    pub erased: u64,
    pub streams: u64,
    /// Positions of the first and the last append; 0 in an empty log.
    pub from: u64,
    pub to: u64,
    /// None when the engine keeps no chain.
    pub chain: Option<Chained>,
    /// The first [`MAX_FAULTS_SHOWN`], in the order they were found.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub faults_found: u64,
}

impl Checked {
    pub fn is_clean(&self) -> bool {
        self.faults_found == 0
    }
}

/// What the hash chain covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chained {
    /// Appends after this position are covered.
    pub after: u64,
    pub to: u64,
    pub links: u64,
    /// Of the last link, in hexadecimal digits: noted elsewhere, it shows later that nothing before it was
    /// changed, also not by somebody who made a new chain.
    pub hash: String,
}

/// One thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    #[error("appends are missing after position {after}, before {position}")]
    Gap { after: u64, position: u64 },
    #[error("position {position} comes after {after}")]
    Order { after: u64, position: u64 },
    #[error("position {position}: event {ordinal} should have the number {expected}")]
    Ordinal { position: u64, ordinal: u32, expected: u64 },
    #[error("position {position}: event {ordinal} is of another stream or command than the first")]
    Mixed { position: u64, ordinal: u32 },
    #[error("position {position}: {stream} goes on at version {version} instead of {expected}")]
    Version { position: u64, ordinal: u32, stream: String, version: u64, expected: u64 },
    #[error("position {position}: the id of event {ordinal} does not come from its command")]
    EventId { position: u64, ordinal: u32 },
    #[error("position {position}: command {command} has an append before this")]
    CommandTwice { position: u64, command: Uuid },
    #[error("position {position}: event {ordinal}, {kind} schema {schema}: {reason}")]
    Payload { position: u64, ordinal: u32, kind: String, schema: u16, reason: String },
    #[error("what stands after position {after}, up to {position}, is not what the chain was made of")]
    Chain { after: u64, position: u64 },
    #[error("the chain goes on to position {position}, where the log has nothing")]
    ChainTooLong { position: u64 },
    #[error("nothing covers positions {from} to {to}: the chain ends before")]
    ChainTooShort { from: u64, to: u64 },
    #[error("the beginning of the chain is gone")]
    NoChain,
}

/// Checks positions, versions, ids, payloads and the hash chain. Only what can't be read at all is an
/// error; everything else is a fault.
pub async fn check(
    engine: &dyn Engine,
    keyring: &Keyring,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Checked, LogError> {
    let head = engine.head().await?;
    let beginning = engine.chain_after(None, 1).await?;
    let mut check = Box::new(Check::new(engine.is_gapless(), head, beginning));
    let links_to = check.chain.as_ref().map(|chain| Position(chain.to));
    let mut page = read(engine, keyring, head, Position::START, links_to).await?;
    while !page.rows.is_empty() {
        let next = read(engine, keyring, head, page.to, page.links_to);
        let looked = spawn_blocking(move || {
            check.page(page);
            check
        });
        let looked = looked.map_err(|lost| LogError::Unavailable(lost.to_string()));
        (check, page) = try_join!(looked, next)?;
        progress(check.progress());
    }
    check.lost_tail(engine, page.links_to).await?;
    check.twice(engine).await?;
    Ok(check.checked())
}

/// A stretch of the log, with what is needed to look at it.
struct Page {
    rows: Vec<Sealed>,
    keys: HashMap<Uuid, DataKey>,
    /// Those that were not read before, as far as the rows go or further.
    links: Vec<Link>,
    /// The last row and the last link that were read.
    to: Position,
    links_to: Option<Position>,
}

async fn read(
    engine: &dyn Engine,
    keyring: &Keyring,
    head: Position,
    after: Position,
    mut links_to: Option<Position>,
) -> Result<Page, LogError> {
    let mut rows = engine.sealed_after(after, PAGE_EVENTS).await?;
    rows.retain(|row| row.position <= head.0);
    let keys = keyring.for_opening(&codec::owners(rows.iter().map(|row| row.subject))).await?;
    let to = rows.last().map_or(after, |row| Position(row.position));
    let mut links: Vec<Link> = Vec::new();
    while let Some(known) = links_to
        && known < to
        && let Some(more) = engine.chain_after(links_to, PAGE_EVENTS).await?
        && let Some(last) = more.last()
    {
        links_to = Some(last.position);
        links.extend(more);
    }
    Ok(Page { rows, keys, links, to, links_to })
}

/// What is known so far.
struct Check {
    is_gapless: bool,
    head: Position,
    chain: Option<Chain>,
    last: u64,
    hashers: [RandomState; 2],
    /// By a hash of their names.
    versions: HashMap<(u64, u64), u64>,
    /// Hashes; those that were seen before are looked at once more.
    commands: HashSet<u64>,
    suspects: Vec<Uuid>,
    found: Checked,
}

struct Chain {
    /// The last link, and what was read after it.
    hash: Vec<u8>,
    to: u64,
    open: Vec<(u64, [u8; DIGEST_BYTES])>,
    ahead: VecDeque<Link>,
    after: u64,
    links: u64,
}

impl Check {
    fn new(is_gapless: bool, head: Position, beginning: Option<Vec<Link>>) -> Self {
        let found = Checked {
            appends: 0,
            events: 0,
            erased: 0,
            streams: 0,
            from: 0,
            to: 0,
            chain: None,
            faults: Vec::new(),
            faults_found: 0,
        };
        let mut check = Self {
            is_gapless,
            head,
            chain: None,
            last: 0,
            hashers: [RandomState::new(), RandomState::new()],
            versions: HashMap::new(),
            commands: HashSet::new(),
            suspects: Vec::new(),
            found,
        };
        match beginning.map(|links| links.into_iter().next()) {
            Some(Some(Link { position, hash })) if hash == CHAIN_BEGINS => {
                check.chain = Some(Chain {
                    hash,
                    to: position.0,
                    open: Vec::new(),
                    ahead: VecDeque::new(),
                    after: position.0,
                    links: 0,
                });
            }
            Some(_) => check.fault(Fault::NoChain),
            None => (),
        }
        check
    }

    fn page(&mut self, page: Page) {
        if let Some(chain) = &mut self.chain {
            chain.ahead.extend(page.links);
        }
        for append in page.rows.chunk_by(|a, b| a.position == b.position) {
            self.append(append, &page.keys);
        }
        let uncovered = self.chain.as_mut().and_then(Chain::uncovered);
        if let Some((from, to)) = uncovered {
            self.fault(Fault::ChainTooShort { from, to });
        }
    }

    fn append(&mut self, rows: &[Sealed], keys: &HashMap<Uuid, DataKey>) {
        let Some(first) = rows.first() else { return };
        let (position, after) = (first.position, self.last);
        if position <= after {
            self.fault(Fault::Order { after, position });
        } else if self.is_gapless && position != after + 1 {
            self.fault(Fault::Gap { after, position });
        }
        self.last = position;
        if self.found.appends == 0 {
            self.found.from = position;
        }
        self.found.appends += 1;
        if !self.commands.insert(self.hashers[0].hash_one(first.command))
            && self.suspects.len() < MAX_FAULTS_SHOWN
        {
            self.suspects.push(first.command);
        }
        for (row, expected) in rows.iter().zip(0u64..) {
            self.row(row, expected, first, keys);
        }
        let broken: Vec<Fault> = self.chain.as_mut().map(|chain| chain.append(rows)).unwrap_or_default();
        for fault in broken {
            self.fault(fault);
        }
    }

    fn row(&mut self, row: &Sealed, number: u64, first: &Sealed, keys: &HashMap<Uuid, DataKey>) {
        let (position, ordinal) = (row.position, row.ordinal);
        self.found.events += 1;
        if u64::from(ordinal) != number {
            self.fault(Fault::Ordinal { position, ordinal, expected: number });
        }
        if (&row.stream, row.command) != (&first.stream, first.command) {
            self.fault(Fault::Mixed { position, ordinal });
        }
        if CommandId(row.command).event(ordinal).0 != row.event_id {
            self.fault(Fault::EventId { position, ordinal });
        }
        let [one, other] = &self.hashers;
        let version =
            self.versions.entry((one.hash_one(&row.stream), other.hash_one(&row.stream))).or_default();
        let expected = *version + 1;
        *version = row.version;
        if row.version != expected {
            let stream = row.stream.clone();
            self.fault(Fault::Version { position, ordinal, stream, version: row.version, expected });
        }
        match codec::opened(row, keys) {
            Ok(Some(_)) => (),
            Ok(None) => self.found.erased += 1,
            Err(error) => {
                let reason = match error {
                    LogError::Unreadable { reason, .. } => reason,
                    other => other.to_string(),
                };
                let (kind, schema) = (row.kind.clone(), row.schema);
                self.fault(Fault::Payload { position, ordinal, kind, schema, reason });
            }
        }
    }

    /// Links to what isn't there. The server may have written since the check began.
    async fn lost_tail(&mut self, engine: &dyn Engine, links_to: Option<Position>) -> Result<(), LogError> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let mut ahead = Vec::from(std::mem::take(&mut chain.ahead));
        ahead.extend(engine.chain_after(links_to, PAGE_EVENTS).await?.unwrap_or_default());
        let head = engine.head().await?;
        for link in ahead {
            if link.position <= self.head || link.position > head {
                self.fault(Fault::ChainTooLong { position: link.position.0 });
            }
        }
        Ok(())
    }

    /// Reads again for the commands whose hash was seen before, and compares them whole.
    async fn twice(&mut self, engine: &dyn Engine) -> Result<(), LogError> {
        let mut seen: HashMap<Uuid, bool> =
            std::mem::take(&mut self.suspects).into_iter().map(|command| (command, false)).collect();
        let mut after = Position::START;
        while !seen.is_empty() && after < self.head {
            let rows = engine.sealed_after(after, PAGE_EVENTS).await?;
            let Some(last) = rows.last() else { break };
            after = Position(last.position);
            for append in rows.chunk_by(|a, b| a.position == b.position) {
                let Some(Sealed { position, command, .. }) = append.first() else { continue };
                let Some(before) = seen.get_mut(command) else { continue };
                if std::mem::replace(before, true) {
                    self.fault(Fault::CommandTwice { position: *position, command: *command });
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self, fault: Fault) {
        self.found.faults_found += 1;
        if self.found.faults.len() < MAX_FAULTS_SHOWN {
            self.found.faults.push(fault);
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            step: Step::Checking,
            events: self.found.events,
            position: Position(self.last),
            head: self.head,
        }
    }

    fn checked(mut self) -> Checked {
        self.found.streams = self.versions.len() as u64;
        self.found.to = self.last;
        self.found.chain = self.chain.map(|chain| Chained {
            after: chain.after,
            to: chain.to,
            links: chain.links,
            hash: chain.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        });
        self.found
    }
}

impl Chain {
    fn append(&mut self, rows: &[Sealed]) -> Vec<Fault> {
        let position = rows.first().map_or(0, |row| row.position);
        let mut faults = Vec::new();
        if position <= self.after {
            return faults;
        }
        // A link to an append that is missing.
        while self.ahead.front().is_some_and(|link| link.position.0 < position) {
            faults.extend(self.close());
        }
        self.open.push((position, digest(rows)));
        if self.ahead.front().is_some_and(|link| link.position.0 == position) {
            faults.extend(self.close());
        }
        faults
    }

    /// Compares the next link with what was read. Goes on from the link, so that one change is one fault.
    fn close(&mut self) -> Option<Fault> {
        let link = self.ahead.pop_front()?;
        let is_right = link.hash == codec::link(&self.hash, &self.open);
        let (after, position) = (self.to, link.position.0);
        self.open.clear();
        self.hash = link.hash;
        self.to = position;
        self.links += 1;
        (!is_right).then_some(Fault::Chain { after, position })
    }

    /// What was read and no link covers, when all links have been read.
    fn uncovered(&mut self) -> Option<(u64, u64)> {
        let (from, to) = (self.open.first()?.0, self.open.last()?.0);
        if !self.ahead.is_empty() {
            return None;
        }
        self.open.clear();
        Some((from, to))
    }
}
