//! Moves a log from one engine to another.

use domain::log::{AppendError, LogError, Position};
use futures_util::{future::join, try_join};

use super::codec::{Sealed, digest};
use super::{Engine, Progress, Step};

/// Events read at once.
const PAGE_EVENTS: usize = 2048;

/// What has been copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// In the target now, all of them compared with the source.
    pub appends: u64,
    pub events: u64,
    /// Of the appends, those that were there before.
    pub already: u64,
}

/// Why a log was not copied to its end; what was copied stays, and a next attempt goes on after it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the log to copy from: {0}")]
    Source(LogError),
    #[error("the log to copy to: {0}")]
    Target(LogError),
    #[error("the log to copy to takes nothing: {0}")]
    Refused(AppendError),
    /// Position of the first difference, in the target.
    #[error("the log to copy to has something else than the source at its position {0}")]
    Differs(Position),
}

/// Copies whole appends in order, goes on after those that `to` has from an earlier attempt, and compares
/// everything at the end. Nobody else may write `to` meanwhile. The keys stay where they are.
pub async fn copy(
    from: &dyn Engine,
    to: &dyn Engine,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Copied, CopyError> {
    let head = from.head().await.map_err(CopyError::Source)?;
    let told = |step, events, position| progress(Progress { step, events, position, head });

    let (there, mut source) = compare(from, to, Step::Resuming, &told).await?;
    let mut events = there.events;
    let mut page = source.page().await.map_err(CopyError::Source)?;
    while let Some(last) = page.last().and_then(|append| append.first()) {
        let position = Position(last.position);
        events += page.iter().map(|append| append.len() as u64).sum::<u64>();
        let (taken, next) = join(to.import(page), source.page()).await;
        taken.map_err(CopyError::Refused)?;
        page = next.map_err(CopyError::Source)?;
        told(Step::Copying, events, position);
    }

    let (all, _) = compare(from, to, Step::Comparing, &told).await?;
    match all.events == events {
        true => Ok(Copied { already: there.appends, ..all }),
        false => Err(CopyError::Differs(to.head().await.map_err(CopyError::Target)?)),
    }
}

/// Reads both as far as `to` goes; returns how far that is, and the source behind it.
async fn compare<'e>(
    from: &'e dyn Engine,
    to: &'e dyn Engine,
    step: Step,
    told: &(dyn Fn(Step, u64, Position) + Sync),
) -> Result<(Copied, Appends<'e>), CopyError> {
    let (mut source, mut target) = (Appends::of(from), Appends::of(to));
    let mut same = Copied { appends: 0, events: 0, already: 0 };
    loop {
        let filled = try_join!(async { source.fill().await.map_err(CopyError::Source) }, async {
            target.fill().await.map_err(CopyError::Target)
        },);
        filled?;
        let Some(there) = target.next() else { return Ok((same, source)) };
        let position = Position(there.first().map_or(0, |row| row.position));
        let Some(here) = source.next().filter(|here| digest(here) == digest(&there)) else {
            return Err(CopyError::Differs(position));
        };
        same.appends += 1;
        same.events += there.len() as u64;
        if target.held.is_empty() {
            told(step, same.events, Position(here.first().map_or(0, |row| row.position)));
        }
    }
}

/// The appends of a log, one after the other.
struct Appends<'e> {
    engine: &'e dyn Engine,
    after: Position,
    /// Read and not handed out, the next one last.
    held: Vec<Vec<Sealed>>,
}

impl<'e> Appends<'e> {
    fn of(engine: &'e dyn Engine) -> Self {
        Self { engine, after: Position::START, held: Vec::new() }
    }

    async fn fill(&mut self) -> Result<(), LogError> {
        if !self.held.is_empty() {
            return Ok(());
        }
        for row in self.engine.sealed_after(self.after, PAGE_EVENTS).await? {
            match self.held.last_mut().filter(|_| row.position == self.after.0) {
                Some(append) => append.push(row),
                None => {
                    self.after = Position(row.position);
                    self.held.push(vec![row]);
                }
            }
        }
        self.held.reverse();
        Ok(())
    }

    fn next(&mut self) -> Option<Vec<Sealed>> {
        self.held.pop()
    }

    /// Some that follow each other; none at the end.
    async fn page(&mut self) -> Result<Vec<Vec<Sealed>>, LogError> {
        self.fill().await?;
        let mut page = std::mem::take(&mut self.held);
        page.reverse();
        Ok(page)
    }
}
