//! `server-info`: what the machine is, where the administrator wants that shown.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use nix::sys::statvfs::statvfs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Anyone, ApiError, Endpoint, Meta};
use crate::app::App;
use crate::platform::memory;

/// How long others may keep what the machine is, in seconds.
const INFO_SECONDS: u32 = 60;
/// What is shown of what isn't.
const HIDDEN: &str = "?";
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const CPUS: &str = "/proc/cpuinfo";

/// What the machine is.
#[derive(Deserialize, JsonSchema)]
pub struct Show {}

/// A machine.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Machine {
    machine: String,
    cpu: Cpu,
    mem: Memory,
    fs: Disk,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct Cpu {
    model: String,
    cores: usize,
}

/// In bytes.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct Memory {
    total: u64,
}

/// Where the server keeps its data, in bytes.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct Disk {
    total: u64,
    used: u64,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("server-info").get().cache(INFO_SECONDS);
    type Caller = Anyone;
    type Reply = Machine;

    async fn handle(self, app: &App, _: Anyone) -> Result<Machine, ApiError> {
        let settings = projections::instance::load(&app.pool).await?.settings;
        if !settings.flag("enableServerMachineStats") {
            return Ok(Machine::hidden());
        }
        let data: PathBuf = app.config.data_dir.clone();
        tokio::task::spawn_blocking(move || Machine::here(&data)).await.map_err(ApiError::internal)
    }
}

impl Machine {
    fn hidden() -> Self {
        Self {
            machine: HIDDEN.to_owned(),
            cpu: Cpu { model: HIDDEN.to_owned(), cores: 0 },
            mem: Memory { total: 0 },
            fs: Disk { total: 0, used: 0 },
        }
    }

    /// This one, as far as it tells.
    fn here(data: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let disk = statvfs(data).map(|disk| {
            let total = disk.blocks().saturating_mul(disk.fragment_size());
            let free = disk.blocks_free().saturating_mul(disk.fragment_size());
            Disk { total, used: total.saturating_sub(free) }
        });
        Self {
            machine: read(HOSTNAME).trim().to_owned(),
            cpu: Cpu {
                model: value(&read(CPUS), "model name").unwrap_or(HIDDEN).to_owned(),
                cores: available_parallelism().map_or(0, usize::from),
            },
            mem: Memory { total: memory::of_machine().unwrap_or_default() },
            fs: disk.unwrap_or(Disk { total: 0, used: 0 }),
        }
    }
}

/// The value of the first line `name: value`.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        assert_eq!(value("processor\t: 0\nmodel name\t: A B\nmodel name\t: C", "model name"), Some("A B"));
        let here = Machine::here(Path::new("/"));
        assert!(here.cpu.cores > 0 && here.fs.total >= here.fs.used && here.fs.total > 0, "{here:?}");
        assert_eq!(Machine::here(Path::new("/no/such/path")).fs, Disk { total: 0, used: 0 });
    }
}
