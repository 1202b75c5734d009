//! Antennas: what somebody wants to hear of wherever it is said; all antennas of one person in the stream
//! `antennas-{owner}`, so that their limit holds.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{AntennaId, ListId, UserId};
use crate::list::Lists;
use crate::log::StreamId;
use crate::{Event, Fold};

/// The longest name of an antenna, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Words of one antenna, wanted and unwanted together.
pub const MAX_WORDS: usize = 1_000;
/// All words of one antenna together, in bytes.
pub const MAX_WORD_BYTES: usize = 16 * 1024;
/// People named by one antenna.
pub const MAX_USERS: usize = 1_000;
/// The longest name of a person there, in bytes.
pub const MAX_USER_BYTES: usize = 320;
/// How long an antenna listens that nobody looks at, in days.
pub const UNUSED_DAYS: u64 = 7;

/// The stream of all antennas of a person.
pub fn stream(owner: UserId) -> StreamId {
    StreamId::new("antennas", owner)
}

/// Whose notes an antenna hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Of those whom its owner follows, and their own.
    Home,
    All,
    /// Of the people it names.
    Users,
    /// Of the people in a list.
    List,
    /// Of all but the people it names.
    UsersBlacklist,
}

/// What an antenna listens for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub name: String,
    pub source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListId>,
    /// All words of one of these.
    pub keywords: Vec<Vec<String>>,
    /// Not all words of any of these.
    pub exclude_keywords: Vec<Vec<String>>,
    /// People as they were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// The same people, in lower case: `name`, or `name@host` for those of other servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    pub case_sensitive: bool,
    pub local_only: bool,
    pub exclude_bots: bool,
    pub with_replies: bool,
    /// Only notes with files.
    pub with_file: bool,
    pub exclude_notes_in_sensitive_channel: bool,
}

/// `antenna.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: AntennaId,
    pub owner: UserId,
    pub settings: Settings,
}

/// `antenna.changed`: it listens for this from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub id: AntennaId,
    pub owner: UserId,
    pub settings: Settings,
}

/// `antenna.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub id: AntennaId,
    pub owner: UserId,
}

/// `antenna.used`: its owner looked at what it heard, on that day (UTC) for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub id: AntennaId,
    pub owner: UserId,
    pub day: NaiveDate,
}

macro_rules! of_the_owner {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.owner)
            }
        }
    )*};
}
of_the_owner!(Created, Changed, Deleted, Used);

/// The antennas of one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Antennas(BTreeMap<AntennaId, Antenna>);

/// One antenna.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Antenna {
    pub settings: Settings,
    pub used: Option<NaiveDate>,
}

impl Antennas {
    pub fn get(&self, antenna: AntennaId) -> Option<&Antenna> {
        self.0.get(&antenna)
    }
}

impl Fold for Antennas {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::AntennaCreated(e) => {
                self.0.insert(e.id, Antenna { settings: e.settings.clone(), used: None });
            }
            Event::AntennaChanged(e) => {
                if let Some(antenna) = self.0.get_mut(&e.id) {
                    antenna.settings = e.settings.clone();
                }
            }
            Event::AntennaDeleted(e) => {
                self.0.remove(&e.id);
            }
            Event::AntennaUsed(e) => {
                if let Some(antenna) = self.0.get_mut(&e.id) {
                    antenna.used = Some(e.day);
                }
            }
            _ => (),
        }
    }
}

/// Why an antenna is not made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotTune {
    #[error("no such antenna")]
    NoSuchAntenna,
    #[error("no such list")]
    NoSuchList,
    #[error("there are as many antennas as allowed")]
    TooMany,
    #[error("no words to listen for")]
    NoWords,
    #[error("too much to listen for")]
    TooMuch,
}

/// The antenna is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such antenna")]
pub struct NoSuchAntenna;

/// Decides a new antenna of somebody with these lists, who may have so many.
pub fn create(
    antennas: &Antennas,
    lists: &Lists,
    owner: UserId,
    id: AntennaId,
    settings: Settings,
    limit: usize,
) -> Result<Vec<Event>, CannotTune> {
    if antennas.get(id).is_some() {
        return Ok(Vec::new());
    }
    check(&settings, lists)?;
    if antennas.0.len() >= limit {
        return Err(CannotTune::TooMany);
    }
    Ok(vec![Created { id, owner, settings }.into()])
}

/// Decides what an antenna listens for from now on.
pub fn change(
    antennas: &Antennas,
    lists: &Lists,
    owner: UserId,
    id: AntennaId,
    change: impl FnOnce(&mut Settings),
    limit: usize,
) -> Result<Vec<Event>, CannotTune> {
    let antenna = antennas.get(id).ok_or(CannotTune::NoSuchAntenna)?;
    let mut settings = antenna.settings.clone();
    change(&mut settings);
    check(&settings, lists)?;
    if antennas.0.len() > limit {
        return Err(CannotTune::TooMany);
    }
    if settings == antenna.settings {
        return Ok(Vec::new());
    }
    Ok(vec![Changed { id, owner, settings }.into()])
}

/// Decides the end of an antenna.
pub fn delete(antennas: &Antennas, owner: UserId, id: AntennaId) -> Result<Vec<Event>, NoSuchAntenna> {
    antennas.get(id).ok_or(NoSuchAntenna)?;
    Ok(vec![Deleted { id, owner }.into()])
}

/// Decides that somebody looked at what their antenna heard.
pub fn look(
    antennas: &Antennas,
    owner: UserId,
    id: AntennaId,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, NoSuchAntenna> {
    let antenna = antennas.get(id).ok_or(NoSuchAntenna)?;
    let day = now.date_naive();
    if antenna.used.is_some_and(|used| used >= day) {
        return Ok(Vec::new());
    }
    Ok(vec![Used { id, owner, day }.into()])
}

/// Until when an antenna listens that was made, changed or looked at then.
pub fn listens_until(used: DateTime<Utc>) -> DateTime<Utc> {
    used.checked_add_days(Days::new(UNUSED_DAYS)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn check(settings: &Settings, lists: &Lists) -> Result<(), CannotTune> {
    let words = || settings.keywords.iter().chain(&settings.exclude_keywords).flatten();
    if words().all(String::is_empty) {
        return Err(CannotTune::NoWords);
    }
    let groups = settings.keywords.len().saturating_add(settings.exclude_keywords.len());
    let is_too_much = groups > MAX_WORDS
        || words().count() > MAX_WORDS
        || words().map(String::len).sum::<usize>() > MAX_WORD_BYTES
        || settings.users.len() > MAX_USERS
        || settings.users.iter().any(|user| user.len() > MAX_USER_BYTES);
    if is_too_much {
        return Err(CannotTune::TooMuch);
    }
    match settings.list {
        Some(list) if lists.get(list).is_none() => Err(CannotTune::NoSuchList),
        _ => Ok(()),
    }
}

/// Text without its case, letter by letter, so that a part of it is a part of the whole.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// What a note says: its text and its content warning.
#[derive(Debug, Clone)]
pub struct Words {
    written: String,
    folded: String,
}

impl Words {
    /// None when it says nothing.
    pub fn of(text: Option<&str>, cw: Option<&str>) -> Option<Self> {
        text.or(cw)?;
        let written = format!("{}\n{}", text.unwrap_or_default(), cw.unwrap_or_default());
        Some(Self { folded: folded(&written), written })
    }

    /// Without its case: where [`Matcher::needs`] is looked for.
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

/// What an antenna asks of a note.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    pub words: &'a Words,
    /// As in [`Settings::accounts`].
    pub account: &'a str,
    pub by_bot: bool,
    pub is_local: bool,
    pub is_reply: bool,
    pub has_file: bool,
    pub in_sensitive_channel: bool,
    /// By the owner, or by somebody whom they follow.
    pub is_near: bool,
    /// By somebody in the list that the antenna names.
    pub is_listed: bool,
}

/// The settings of an antenna, ready to be held against notes.
#[derive(Debug, Clone)]
pub struct Matcher {
    keywords: Vec<Vec<String>>,
    exclude_keywords: Vec<Vec<String>>,
    accounts: HashSet<String>,
    settings: Settings,
}

impl Matcher {
    pub fn of(settings: Settings) -> Self {
        let ready = |groups: &[Vec<String>]| -> Vec<Vec<String>> {
            let word = |word: &String| if settings.case_sensitive { word.clone() } else { folded(word) };
            let group = |group: &Vec<String>| -> Vec<String> {
                group.iter().filter(|word| !word.is_empty()).map(word).collect()
            };
            groups.iter().map(group).filter(|group| !group.is_empty()).collect()
        };
        Self {
            keywords: ready(&settings.keywords),
            exclude_keywords: ready(&settings.exclude_keywords),
            accounts: settings.accounts.iter().cloned().collect(),
            settings,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Words of which a note must have one, all without their case; none when it needn't.
    pub fn needs(&self) -> Vec<String> {
        let longest =
            |group: &Vec<String>| group.iter().max_by_key(|word| word.len()).map(|word| folded(word));
        self.keywords.iter().filter_map(longest).collect()
    }

    /// Whether the antenna hears a note.
    pub fn admits(&self, note: &Heard<'_>) -> bool {
        let settings = &self.settings;
        let is_named = || self.accounts.contains(note.account);
        let comes_from = match settings.source {
            Source::All => true,
            Source::Home => note.is_near,
            Source::Users => is_named(),
            Source::UsersBlacklist => !is_named(),
            Source::List => note.is_listed,
        };
        let says = |group: &Vec<String>| {
            let text = if settings.case_sensitive { &note.words.written } else { &note.words.folded };
            group.iter().all(|word| text.contains(word.as_str()))
        };
        comes_from
            && (note.is_local || !settings.local_only)
            && !(settings.exclude_bots && note.by_bot)
            && (note.has_file || !settings.with_file)
            && !(settings.exclude_notes_in_sensitive_channel && note.in_sensitive_channel)
            && (settings.with_replies || !note.is_reply)
            && (self.keywords.is_empty() || self.keywords.iter().any(says))
            && !self.exclude_keywords.iter().any(says)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::note::tests::{NOW, at, id, user};
    use proptest::prelude::*;

    fn words(groups: &[&[&str]]) -> Vec<Vec<String>> {
        groups.iter().map(|group| group.iter().map(|word| String::from(*word)).collect()).collect()
    }

    fn listens(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings {
            name: "antenna".to_owned(),
            source: Source::All,
            list: None,
            keywords: words(&[&["cats"]]),
            exclude_keywords: words(&[&[]]),
            users: Vec::new(),
            accounts: Vec::new(),
            case_sensitive: false,
            local_only: false,
            exclude_bots: false,
            with_replies: true,
            with_file: false,
            exclude_notes_in_sensitive_channel: false,
        };
        change(&mut settings);
        settings
    }

    fn said(text: &str, cw: Option<&str>) -> Words {
        Words::of(Some(text), cw).unwrap()
    }

    fn hears(settings: &Settings, text: &str, change: impl FnOnce(&mut Heard<'_>)) -> bool {
        let words = said(text, Some("about animals"));
        let mut heard = Heard {
            words: &words,
            account: "bob",
            by_bot: false,
            is_local: true,
            is_reply: false,
            has_file: false,
            in_sensitive_channel: false,
            is_near: false,
            is_listed: false,
        };
        change(&mut heard);
        Matcher::of(settings.clone()).admits(&heard)
    }

    #[test]
    fn all_words_of_one_group_are_wanted_and_of_none_that_is_excluded() {
        let settings = listens(|s| {
            s.keywords = words(&[&["cats"], &["Dogs", "", "Animals"], &[], &[""]]);
            s.exclude_keywords = words(&[&["sad", "story"], &["ads"]]);
        });
        for (text, expected) in [
            ("I like CATS", true),
            ("dogs bark", true),
            ("birds", false),
            ("cats and ads", false),
            ("a sad cats day", true),
            ("a sad story about cats", false),
        ] {
            assert_eq!(hears(&settings, text, |_| ()), expected, "{text}");
        }
        let strict = listens(|s| s.case_sensitive = true);
        assert!(!hears(&strict, "CATS", |_| ()) && hears(&strict, "cats", |_| ()));
        let all_but = listens(|s| (s.keywords, s.exclude_keywords) = (Vec::new(), words(&[&["cats"]])));
        assert!(hears(&all_but, "dogs", |_| ()) && !hears(&all_but, "cats", |_| ()));
    }

    #[test]
    fn the_source_decides_whose_notes_are_heard() {
        let from = |source, change: fn(&mut Heard<'_>)| {
            let settings = listens(|s| {
                (s.source, s.accounts) = (source, vec!["bob".to_owned(), "eve@b.example".to_owned()]);
            });
            hears(&settings, "cats", change)
        };
        assert!(from(Source::Users, |_| ()) && !from(Source::UsersBlacklist, |_| ()));
        assert!(!from(Source::Users, |note| note.account = "eve"));
        assert!(from(Source::Users, |note| note.account = "eve@b.example"));
        assert!(from(Source::UsersBlacklist, |note| note.account = "eve"));
        assert!(!from(Source::Home, |_| ()) && from(Source::Home, |note| note.is_near = true));
        assert!(!from(Source::List, |_| ()) && from(Source::List, |note| note.is_listed = true));
    }

    #[test]
    fn some_notes_may_be_left_out() {
        type Case = (fn(&mut Settings), fn(&mut Heard<'_>));
        let cases: [Case; 4] = [
            (|s| s.local_only = true, |note| note.is_local = false),
            (|s| s.exclude_bots = true, |note| note.by_bot = true),
            (|s| s.with_replies = false, |note| note.is_reply = true),
            (|s| s.exclude_notes_in_sensitive_channel = true, |note| note.in_sensitive_channel = true),
        ];
        for (n, (ask, is)) in cases.into_iter().enumerate() {
            assert!(hears(&listens(ask), "cats", |_| ()), "{n}");
            assert!(!hears(&listens(ask), "cats", is), "{n}");
            assert!(hears(&listens(|_| ()), "cats", is), "{n}");
        }
        let files = listens(|s| s.with_file = true);
        assert!(!hears(&files, "cats", |_| ()) && hears(&files, "cats", |note| note.has_file = true));
    }

    #[test]
    fn there_are_as_many_antennas_as_allowed_and_each_has_words() {
        let (none, lists) = (Antennas::default(), Lists::default());
        let make_as = |n, antennas: &Antennas, settings| {
            create(antennas, &lists, user(1), AntennaId(id(n)), settings, 1)
        };
        let make = |antennas: &Antennas, settings| make_as(7, antennas, settings);
        let mut one = Antennas::default();
        make(&none, listens(|_| ())).unwrap().iter().for_each(|event| one.apply(event));
        assert_eq!(make(&one, listens(|_| ())), Ok(Vec::new()), "it is there");
        assert_eq!(make_as(8, &one, listens(|_| ())), Err(CannotTune::TooMany));
        let wordless = |s: &mut Settings| s.keywords = words(&[&[], &[""]]);
        assert_eq!(make(&none, listens(wordless)), Err(CannotTune::NoWords));
        let long = |s: &mut Settings| s.keywords = vec![vec!["x".repeat(MAX_WORD_BYTES + 1)]];
        assert_eq!(make(&none, listens(long)), Err(CannotTune::TooMuch));
        let listed = |s: &mut Settings| s.list = Some(ListId(id(9)));
        assert_eq!(make(&none, listens(listed)), Err(CannotTune::NoSuchList));

        let tune = |antenna, limit, how: fn(&mut Settings)| {
            change(&one, &lists, user(1), AntennaId(id(antenna)), how, limit)
        };
        assert_eq!(tune(7, 1, |_| ()), Ok(Vec::new()));
        assert!(tune(7, 1, |s| s.name = "new".to_owned()).is_ok_and(|events| events.len() == 1));
        assert_eq!(tune(8, 1, |_| ()), Err(CannotTune::NoSuchAntenna));
        assert_eq!(tune(7, 0, |s| s.name = "new".to_owned()), Err(CannotTune::TooMany));
        assert_eq!(delete(&one, user(1), AntennaId(id(8))), Err(NoSuchAntenna));
    }

    #[test]
    fn it_is_noted_once_a_day_that_an_antenna_is_used() {
        let mut one = Antennas::default();
        let made = create(&one, &Lists::default(), user(1), AntennaId(id(7)), listens(|_| ()), 1).unwrap();
        made.iter().for_each(|event| one.apply(event));
        let looks = |antennas: &Antennas, day: i64| {
            look(antennas, user(1), AntennaId(id(7)), at(NOW + day * 86_400_000)).unwrap()
        };
        let first = looks(&one, 0);
        assert_eq!(first.len(), 1);
        first.iter().for_each(|event| one.apply(event));
        assert_eq!((looks(&one, 0).len(), looks(&one, 1).len()), (0, 1));
    }

    proptest! {
        #[test]
        fn what_an_antenna_hears_has_one_of_the_words_it_needs(
            keywords in prop::collection::vec(prop::collection::vec("[abAB ßΣςİ]{0,3}", 0..3), 1..4),
            text in "[abAB ßΣςİ]{0,12}",
            case_sensitive in any::<bool>(),
        ) {
            let settings = listens(|s| (s.keywords, s.case_sensitive) = (keywords, case_sensitive));
            let needs = Matcher::of(settings.clone()).needs();
            if hears(&settings, &text, |_| ()) && !needs.is_empty() {
                let words = said(&text, Some("about animals"));
                prop_assert!(needs.iter().any(|word| words.folded().contains(word.as_str())), "{needs:?}");
            }
        }
    }
}
