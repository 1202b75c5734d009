//! Facts of one kind loaded together: while one statement is under way, the keys that others want gather, and the
//! next statement loads all of them. Where nobody else loads, nobody waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

/// So many keys are loaded at once, and those of the last caller.
const MAX_KEYS: usize = 1_000;
/// Callers that wait, those that have gone away meanwhile included; one more loads what they want themselves.
const MAX_WAITING: usize = 1_000;
/// Who has waited for so long loads what they want themselves.
const WAITS_AT_MOST: Duration = Duration::from_secs(1);

/// What was loaded, for each of those who wanted some of it.
type Loaded<K, V> = Arc<HashMap<K, V>>;

pub(super) struct Together<K, V> {
    /// Held while a statement is under way.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<VecDeque<Waiting<K, V>>>,
}

struct Waiting<K, V> {
    keys: Vec<K>,
    reply: oneshot::Sender<Loaded<K, V>>,
}

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self { turn: tokio::sync::Mutex::new(()), waiting: Mutex::new(VecDeque::new()) }
    }
}

impl<K: Hash + Eq + Copy, V> Together<K, V> {
    /// What is there of these keys, and perhaps of others. It is asked for after this was called: by `load`, which
    /// is also handed what others want, or by that of somebody else.
    pub async fn load<L>(&self, keys: Vec<K>, load: impl FnOnce(Vec<K>) -> L) -> sqlx::Result<Loaded<K, V>>
    where
        L: Future<Output = sqlx::Result<HashMap<K, V>>>,
    {
        if let Ok(_turn) = self.turn.try_lock() {
            return self.with_others(keys, load).await;
        }
        let Some(mut answer) = self.wait(&keys) else { return Ok(Arc::new(load(keys).await?)) };
        tokio::select! {
            biased;
            answer = &mut answer => if let Ok(loaded) = answer {
                return Ok(loaded);
            },
            _turn = self.turn.lock() => {
                // It may have come with the turn.
                if let Ok(loaded) = answer.try_recv() {
                    return Ok(loaded);
                }
                drop(answer);
                return self.with_others(keys, load).await;
            }
            () = sleep(WAITS_AT_MOST) => (),
        }
        // Whose turn it was failed or went away, or takes too long.
        Ok(Arc::new(load(keys).await?))
    }

    /// None where too many wait.
    fn wait(&self, keys: &[K]) -> Option<oneshot::Receiver<Loaded<K, V>>> {
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            waiting.retain(|other| !other.reply.is_closed());
        }
        let (reply, answer) = oneshot::channel();
        let has_room = waiting.len() < MAX_WAITING;
        has_room.then(|| {
            waiting.push_back(Waiting { keys: keys.to_vec(), reply });
            answer
        })
    }

    async fn with_others<L>(
        &self,
        mut keys: Vec<K>,
        load: impl FnOnce(Vec<K>) -> L,
    ) -> sqlx::Result<Loaded<K, V>>
    where
        L: Future<Output = sqlx::Result<HashMap<K, V>>>,
    {
        let others = self.take(&mut keys);
        let loaded = Arc::new(load(keys).await?);
        for reply in others {
            // Somebody who has gone away doesn't want to know.
            _ = reply.send(loaded.clone());
        }
        Ok(loaded)
    }

    /// Adds the keys of those who wait; says whom to tell.
    fn take(&self, keys: &mut Vec<K>) -> Vec<oneshot::Sender<Loaded<K, V>>> {
        let mut waiting = self.lock();
        let mut others = Vec::new();
        while keys.len() < MAX_KEYS
            && let Some(other) = waiting.pop_front()
        {
            if !other.reply.is_closed() {
                keys.extend(other.keys);
                others.push(other.reply);
            }
        }
        let mut seen = HashSet::with_capacity(keys.len());
        keys.retain(|key| seen.insert(*key));
        others
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting<K, V>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    /// Loads, and remembers what was asked for together.
    #[derive(Default)]
    struct Table {
        together: Together<u32, u32>,
        asked: Mutex<Vec<Vec<u32>>>,
        may_answer: Notify,
    }

    impl Table {
        /// Each key is ten times itself; 9 is not there, and 13 is a fault.
        async fn get(&self, keys: &[u32]) -> Option<Vec<u32>> {
            let load = async |asked: Vec<u32>| {
                self.asked.lock().unwrap().push(asked.clone());
                self.may_answer.notified().await;
                if asked.contains(&13) {
                    return Err(sqlx::Error::PoolTimedOut);
                }
                Ok(asked.into_iter().filter(|key| *key != 9).map(|key| (key, 10 * key)).collect())
            };
            let loaded = self.together.load(keys.to_vec(), load).await.ok()?;
            Some(keys.iter().filter_map(|key| loaded.get(key).copied()).collect())
        }

        fn asked(&self) -> Vec<Vec<u32>> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    fn spawned(table: &Arc<Table>, keys: &'static [u32]) -> tokio::task::JoinHandle<Option<Vec<u32>>> {
        let table = table.clone();
        tokio::spawn(async move { table.get(keys).await })
    }

    async fn all_wait() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_wanted_meanwhile_is_loaded_at_once_after_it() {
        let table = Arc::new(Table::default());
        let first = spawned(&table, &[1, 1, 2]);
        all_wait().await;
        let others = [spawned(&table, &[2, 3]), spawned(&table, &[3, 9]), spawned(&table, &[4])];
        all_wait().await;
        assert_eq!(table.asked(), [[1, 2]]);
        table.may_answer.notify_one();
        assert_eq!(first.await.unwrap(), Some(vec![10, 10, 20]));
        all_wait().await;
        assert_eq!(table.asked(), [[2, 3, 9, 4]]);
        table.may_answer.notify_one();
        let mut told = Vec::new();
        for other in others {
            told.push(other.await.unwrap().unwrap());
        }
        assert_eq!(told, [vec![20, 30], vec![30], vec![40]]);
    }

    #[tokio::test]
    async fn who_fails_or_goes_away_leaves_the_others_to_themselves() {
        for goes_away in [false, true] {
            let table = Arc::new(Table::default());
            let first = spawned(&table, &[1]);
            all_wait().await;
            let second = spawned(&table, &[13]);
            all_wait().await;
            let third = spawned(&table, &[3]);
            all_wait().await;
            table.may_answer.notify_one();
            assert_eq!(first.await.unwrap(), Some(vec![10]));
            all_wait().await;
            assert_eq!(table.asked(), [vec![1], vec![13, 3]]);
            match goes_away {
                true => second.abort(),
                false => {
                    table.may_answer.notify_one();
                    assert_eq!(second.await.unwrap(), None);
                }
            }
            all_wait().await;
            assert_eq!(table.asked(), [[3]]);
            table.may_answer.notify_one();
            assert_eq!(third.await.unwrap(), Some(vec![30]));
        }
    }

    #[test]
    fn no_more_wait_than_may_and_who_has_gone_away_makes_room() {
        let together = Together::<u32, u32>::default();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| together.wait(&[1]).unwrap()).collect();
        assert!(together.wait(&[1]).is_none());
        waiting.truncate(1);
        assert!(together.wait(&[1]).is_some());
        assert_eq!(together.lock().len(), 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_for_others() {
        let together = Together::<u32, u32>::default();
        let stuck = together.load(vec![1], |_| pending());
        let other = together.load(vec![2], async |keys| Ok(keys.into_iter().map(|key| (key, key)).collect()));
        tokio::select! {
            biased;
            _ = stuck => panic!("it can't end"),
            loaded = other => assert_eq!(*loaded.unwrap(), HashMap::from([(2, 2)])),
        }
    }
}
