//! One kind of facts in memory, by their keys. [`super`] says why what is handed out is right.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::Event;
use domain::log::{Position, Recorded};
use lru::LruCache;

use super::together::Together;
use crate::runtime::Projector;

/// The most changed keys that are remembered for facts that are being loaded meanwhile; what began to be
/// loaded before them is not kept.
pub(crate) const MAX_TOUCHED: usize = 8_192;
/// What an entry costs beside what it holds, in bytes: its key, its place in the table and in the order of use.
const ENTRY_BYTES: usize = 104;

/// What an event changes.
pub(crate) enum Touch<K, V> {
    Nothing,
    /// These are forgotten.
    Keys(Vec<K>),
    /// What is there of this key from now on is known from the event.
    Is(K, Option<V>),
    /// What is known of this key changes so.
    Changes(K, fn(&mut V, &Recorded)),
    /// These are forgotten, and of the others those that [hang on others](Shelf::hanging).
    Hanging(Vec<K>),
    All,
}

/// Facts of one kind. That something is not there is a fact as well.
pub(crate) struct Shelf<K, V> {
    /// The kinds of events by which they may change.
    kinds: HashSet<&'static str>,
    touch: fn(&Event) -> Touch<K, V>,
    weigh: fn(&V) -> usize,
    hangs: fn(&V) -> bool,
    max_bytes: usize,
    kept: Mutex<Kept<K, V>>,
    together: Together<K, V>,
}

struct Kept<K, V> {
    entries: LruCache<K, Entry<V>>,
    bytes: usize,
    /// Moves when those are forgotten that hang on others.
    cut: u64,
    /// Moves when more is forgotten than single keys.
    epoch: u64,
    /// Where keys were changed last.
    touched: HashMap<K, Position>,
    order: VecDeque<(Position, K)>,
    /// Changes up to here may be remembered no more.
    floor: Position,
}

struct Entry<V> {
    value: Option<V>,
    /// [`Kept::cut`] when it was put here.
    cut: u64,
}

/// Taken before facts are loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    at: Position,
    epoch: u64,
}

impl<K: Hash + Eq + Copy, V: Clone> Shelf<K, V> {
    /// For what is loaded from the tables that these projectors fill: `touch` says what an event changes that
    /// one of them hears, `weigh` what a value takes in bytes.
    pub fn new(
        projectors: &[Arc<dyn Projector>],
        of: &[&str],
        touch: fn(&Event) -> Touch<K, V>,
        weigh: fn(&V) -> usize,
        max_bytes: usize,
    ) -> Self {
        let these = projectors.iter().filter(|projector| of.contains(&projector.name()));
        let kinds = these.flat_map(|projector| projector.kinds().iter().copied()).collect();
        let kept = Kept {
            entries: LruCache::unbounded(),
            bytes: 0,
            cut: 0,
            epoch: 0,
            touched: HashMap::new(),
            order: VecDeque::new(),
            floor: Position::START,
        };
        let (kept, together) = (Mutex::new(kept), Together::default());
        Self { kinds, touch, weigh, hangs: |_| true, max_bytes, kept, together }
    }

    /// Where [`Touch::Hanging`] forgets only what hangs on others: says which does. It is not looked for at once:
    /// what was put there before is not handed out any more, and goes when the room is needed.
    pub fn hanging(self, hangs: fn(&V) -> bool) -> Self {
        Self { hangs, ..self }
    }

    /// Loads what is missing, together with what others want of this kind, and keeps it. What is there of other
    /// keys may be handed out as well.
    pub async fn load<L>(
        &self,
        missing: Vec<K>,
        begun: Begun,
        load: impl FnOnce(Vec<K>) -> L,
    ) -> sqlx::Result<Arc<HashMap<K, V>>>
    where
        L: Future<Output = sqlx::Result<HashMap<K, V>>>,
    {
        let load = async |keys: Vec<K>| {
            let loaded = load(keys.clone()).await?;
            let gone = keys.into_iter().filter(|key| !loaded.contains_key(key)).map(|key| (key, None));
            self.put(begun, loaded.iter().map(|(key, value)| (*key, Some(value.clone()))).chain(gone));
            Ok(loaded)
        };
        self.together.load(missing, load).await
    }

    /// What is known of these keys, and those of which nothing is; for a reader who has taken in the log up
    /// to a position.
    pub fn get(&self, keys: impl IntoIterator<Item = K>, at: Position) -> (HashMap<K, V>, Vec<K>, Begun) {
        let mut kept = self.lock();
        let begun = Begun { at, epoch: kept.epoch };
        let (mut found, mut missing) = (HashMap::new(), Vec::new());
        let cut = kept.cut;
        for key in keys {
            match kept.entries.get(&key) {
                Some(Entry { value: None, .. }) => (),
                Some(Entry { value: Some(value), cut: at }) if *at == cut || !(self.hangs)(value) => {
                    found.insert(key, value.clone());
                }
                _ => missing.push(key),
            }
        }
        (found, missing, begun)
    }

    /// Keeps what was loaded, as far as nothing has changed it in the meantime.
    pub fn put(&self, begun: Begun, loaded: impl IntoIterator<Item = (K, Option<V>)>) {
        let mut kept = self.lock();
        if kept.epoch != begun.epoch || kept.floor > begun.at {
            return;
        }
        for (key, value) in loaded {
            if kept.touched.get(&key).is_some_and(|touched| *touched > begun.at) {
                continue;
            }
            self.keep(&mut kept, key, value);
        }
        self.make_room(&mut kept);
    }

    fn keep(&self, kept: &mut Kept<K, V>, key: K, value: Option<V>) {
        kept.bytes += self.weigh(&value);
        let entry = Entry { value, cut: kept.cut };
        if let Some((_, before)) = kept.entries.push(key, entry) {
            kept.bytes = kept.bytes.saturating_sub(self.weigh(&before.value));
        }
    }

    fn make_room(&self, kept: &mut Kept<K, V>) {
        while kept.bytes > self.max_bytes {
            let Some((_, oldest)) = kept.entries.pop_lru() else { break };
            kept.bytes = kept.bytes.saturating_sub(self.weigh(&oldest.value));
        }
    }

    /// Takes in an event: what it changes is forgotten, or changed where the event says how.
    pub fn hear(&self, event: &Recorded) {
        if !self.kinds.contains(event.kind.as_str()) {
            return;
        }
        // What it changed can't be read any more.
        let touch = event.event.as_ref().map_or(Touch::All, self.touch);
        match touch {
            Touch::Nothing => (),
            Touch::Keys(keys) => self.forget(&mut self.lock(), keys, event.position),
            Touch::Is(key, value) => {
                let mut kept = self.lock();
                kept.touch(key, event.position);
                self.keep(&mut kept, key, value);
                self.make_room(&mut kept);
            }
            Touch::Changes(key, change) => {
                let mut kept = self.lock();
                kept.touch(key, event.position);
                if let Some(Entry { value: Some(value), .. }) = kept.entries.peek_mut(&key) {
                    let before = (self.weigh)(value);
                    change(value, event);
                    let after = (self.weigh)(value);
                    kept.bytes = (kept.bytes + after).saturating_sub(before);
                }
            }
            Touch::Hanging(keys) => {
                let mut kept = self.lock();
                kept.epoch += 1;
                kept.cut += 1;
                self.forget(&mut kept, keys, event.position);
            }
            Touch::All => self.clear(),
        }
    }

    fn forget(&self, kept: &mut Kept<K, V>, keys: Vec<K>, at: Position) {
        for key in keys {
            if let Some(entry) = kept.entries.pop(&key) {
                kept.bytes = kept.bytes.saturating_sub(self.weigh(&entry.value));
            }
            kept.touch(key, at);
        }
    }

    /// Forgets everything, and what is being loaded.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.epoch += 1;
        kept.entries.clear();
        kept.bytes = 0;
        kept.touched.clear();
        kept.order.clear();
    }

    #[cfg(test)]
    pub fn kinds(&self) -> &HashSet<&'static str> {
        &self.kinds
    }

    fn weigh(&self, value: &Option<V>) -> usize {
        ENTRY_BYTES + value.as_ref().map_or(0, self.weigh)
    }

    fn lock(&self) -> MutexGuard<'_, Kept<K, V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Copy, V> Kept<K, V> {
    fn touch(&mut self, key: K, at: Position) {
        self.touched.insert(key, at);
        self.order.push_back((at, key));
        while self.order.len() > MAX_TOUCHED {
            let Some((at, key)) = self.order.pop_front() else { break };
            self.floor = self.floor.max(at);
            if self.touched.get(&key) == Some(&at) {
                self.touched.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryLog;
    use domain::UserId;
    use domain::user::Active;

    const KEYS: [u32; 3] = [1, 2, 3];

    fn shelf(max_bytes: usize, touch: fn(&Event) -> Touch<u32, u32>) -> Shelf<u32, u32> {
        Shelf::new(&crate::projectors(), &["users"], touch, |value| *value as usize, max_bytes)
    }

    fn event(position: u64) -> Recorded {
        let log = MemoryLog::default();
        let day = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        log.push(
            crate::testing::at(0),
            Some(Active { user: UserId(uuid::Uuid::nil()), day }.into()),
            "user.active",
        );
        Recorded { position: Position(position), ..log.all()[0].as_ref().clone() }
    }

    fn known(shelf: &Shelf<u32, u32>) -> Vec<u32> {
        let mut found: Vec<u32> = shelf.get(KEYS, Position(0)).0.into_keys().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_was_loaded_before_a_change_is_not_kept_after_it() {
        let shelf = shelf(10_000, |_| Touch::Keys(vec![1]));
        let begun = shelf.get(KEYS, Position(5)).2;
        shelf.hear(&event(6));
        shelf.put(begun, [(1, Some(1)), (2, Some(2))]);
        assert_eq!(known(&shelf), [2], "the first may be older than the change");
        shelf.put(shelf.get(KEYS, Position(6)).2, [(1, Some(1))]);
        assert_eq!(known(&shelf), [1, 2]);
        shelf.hear(&event(7));
        assert_eq!(known(&shelf), [2]);
        let other = Recorded { kind: "note.created".to_owned(), ..event(8) };
        shelf.hear(&other);
        assert_eq!(known(&shelf), [2]);
    }

    #[test]
    fn what_nobody_can_read_any_more_may_have_changed_anything() {
        let shelf = shelf(10_000, |_| Touch::Nothing);
        shelf.put(shelf.get(KEYS, Position(5)).2, [(1, Some(1))]);
        shelf.hear(&event(6));
        assert_eq!(known(&shelf), [1]);
        let begun = shelf.get(KEYS, Position(6)).2;
        shelf.hear(&Recorded { event: None, ..event(7) });
        shelf.put(begun, [(2, Some(2))]);
        assert_eq!(known(&shelf), [0_u32; 0]);
    }

    #[test]
    fn what_takes_too_much_room_makes_room() {
        let shelf = shelf(2 * (ENTRY_BYTES + 100), |_| Touch::Nothing);
        let begun = shelf.get(KEYS, Position(5)).2;
        shelf.put(begun, [(1, Some(100)), (2, Some(100))]);
        assert_eq!(known(&shelf), [1, 2]);
        shelf.get([1], Position(5));
        shelf.put(begun, [(3, Some(100))]);
        assert_eq!((known(&shelf), shelf.lock().bytes), (vec![1, 3], 2 * (ENTRY_BYTES + 100)));
        shelf.put(begun, [(3, Some(50))]);
        assert_eq!(shelf.lock().bytes, 2 * ENTRY_BYTES + 150);
    }

    #[test]
    fn changes_that_were_forgotten_are_taken_for_changes() {
        let shelf = shelf(10_000, |_| Touch::Keys(vec![3]));
        let begun = shelf.get(KEYS, Position(5)).2;
        for n in 0..=MAX_TOUCHED as u64 {
            shelf.hear(&event(6 + n));
        }
        shelf.put(begun, [(1, Some(1))]);
        assert_eq!(known(&shelf), [0_u32; 0]);
    }

    #[test]
    fn what_hangs_on_others_goes_and_what_is_not_there_stays() {
        let shelf = shelf(10_000, |_| Touch::Hanging(vec![4])).hanging(|value| *value == 1);
        let keys = [1, 2, 3, 4];
        let begun = shelf.get(keys, Position(5)).2;
        let all = [(1, Some(1)), (2, Some(2)), (3, None), (4, Some(4))];
        shelf.put(begun, all);
        shelf.hear(&event(6));
        let (found, missing, later) = shelf.get(keys, Position(6));
        assert_eq!((found, missing), (HashMap::from([(2, 2)]), vec![1, 4]));
        shelf.put(begun, all);
        assert_eq!(known(&shelf), [2], "it was being loaded meanwhile");
        shelf.put(later, all);
        assert_eq!(shelf.get(keys, Position(6)).1, [0_u32; 0]);
        assert_eq!(shelf.lock().bytes, 4 * ENTRY_BYTES + 7);
    }

    #[test]
    fn what_an_event_says_is_known_at_once_and_not_put_back() {
        let is = shelf(10_000, |_| Touch::Is(1, Some(7)));
        let begun = is.get(KEYS, Position(5)).2;
        is.hear(&event(6));
        is.put(begun, [(1, Some(1)), (2, Some(2))]);
        assert_eq!(is.get(KEYS, Position(6)).0, HashMap::from([(1, 7), (2, 2)]));
        assert_eq!(is.lock().bytes, 2 * ENTRY_BYTES + 9);

        let changes = shelf(10_000, |_| Touch::Changes(1, |value, event| *value += event.position.0 as u32));
        let begun = changes.get(KEYS, Position(5)).2;
        changes.put(begun, [(1, Some(10)), (3, Some(30))]);
        changes.hear(&event(6));
        assert_eq!(changes.get(KEYS, Position(6)).0, HashMap::from([(1, 16), (3, 30)]));
        assert_eq!(changes.lock().bytes, 2 * ENTRY_BYTES + 46);
        changes.put(begun, [(1, Some(10))]);
        assert_eq!(changes.get([1], Position(6)).0, HashMap::from([(1, 16)]), "that is older");
    }
}
