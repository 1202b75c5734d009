//! What a server and its PostgreSQL have used so far, as Linux counts it.

use std::fs;
use std::ops::Sub;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{major, minor};
use serde::Serialize;

/// Linux counts processor time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processes to be watched: the server, and PostgreSQL with all its children.
#[derive(Debug, Clone)]
pub struct Meter {
    pub server: u32,
    /// The first line is the process.
    pub postmaster: PathBuf,
}

/// Since these processes began, or between two readings.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    pub server_cpu: Duration,
    pub database_cpu: Duration,
    /// Written to the disk that PostgreSQL's files are on, by anybody; nothing where that can't be told. What Linux
    /// counts for a process are the pages that it touched, large ones each time a byte of them is written.
    pub written_bytes: u64,
}

/// What both have in memory now.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Memory {
    pub server_bytes: u64,
    /// What several processes share is counted once.
    pub database_bytes: u64,
}

impl Usage {
    pub fn cpu(&self) -> Duration {
        self.server_cpu + self.database_cpu
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            server_cpu: self.server_cpu.saturating_sub(earlier.server_cpu),
            database_cpu: self.database_cpu.saturating_sub(earlier.database_cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

impl Meter {
    pub fn usage(&self) -> Usage {
        let database = self.database();
        let alive = database.iter().map(|pid| ticks(*pid, &[OWN_USER, OWN_SYSTEM])).sum::<u32>();
        // Those of its children that have ended are counted by the first of them.
        let ended = database.first().map_or(0, |pid| ticks(*pid, &[ENDED_USER, ENDED_SYSTEM]));
        Usage {
            server_cpu: TICK * ticks(self.server, &[OWN_USER, OWN_SYSTEM]),
            database_cpu: TICK * (alive + ended),
            written_bytes: self.written().unwrap_or_default(),
        }
    }

    fn written(&self) -> Option<u64> {
        let disk = fs::metadata(self.postmaster.parent()?).ok()?.dev();
        let disk = format!("/sys/dev/block/{}:{}/stat", major(disk), minor(disk));
        let sectors =
            fs::read_to_string(disk).ok()?.split_whitespace().nth(SECTORS_WRITTEN)?.parse::<u64>().ok()?;
        Some(sectors * SECTOR_BYTES)
    }

    pub fn memory(&self) -> Memory {
        let kibibytes = |pid: &u32| number(&proc(*pid, "smaps_rollup"), "Pss:");
        Memory {
            server_bytes: number(&proc(self.server, "status"), "VmRSS:") * 1024,
            database_bytes: self.database().iter().map(kibibytes).sum::<u64>() * 1024,
        }
    }

    /// PostgreSQL's processes, the first one first.
    fn database(&self) -> Vec<u32> {
        let text = fs::read_to_string(&self.postmaster).unwrap_or_default();
        let Some(first) = text.lines().next().and_then(|line| line.trim().parse().ok()) else {
            return Vec::new();
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        std::iter::once(first).chain(pids.filter(|pid| ticks(*pid, &[PARENT]) == first)).collect()
    }
}

/// A field of `/sys/dev/block/…/stat`, and its unit.
const SECTORS_WRITTEN: usize = 6;
const SECTOR_BYTES: u64 = 512;
/// Fields of `/proc/PID/stat` behind the name.
const PARENT: usize = 1;
const OWN_USER: usize = 11;
const OWN_SYSTEM: usize = 12;
const ENDED_USER: usize = 13;
const ENDED_SYSTEM: usize = 14;

fn ticks(pid: u32, fields: &[usize]) -> u32 {
    let text = proc(pid, "stat");
    let rest: Vec<&str> =
        text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    fields.iter().filter_map(|field| rest.get(*field)?.parse::<u32>().ok()).sum()
}

fn proc(pid: u32, file: &str) -> String {
    fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).unwrap_or_default()
}

/// The number behind a word.
fn number(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
