//! How much memory there is.

use std::fs;

/// In bytes.
pub const MIB: u64 = 1 << 20;

const MACHINE: &str = "/proc/meminfo";
/// What a container may take, as the two kinds of control groups tell it.
const CONTAINER: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Of the machine, in bytes; none where the kernel doesn't tell.
pub fn of_machine() -> Option<u64> {
    total(&fs::read_to_string(MACHINE).ok()?)
}

/// For everything that runs here, in bytes; none where the kernel doesn't tell.
pub fn allowed() -> Option<u64> {
    let limits = CONTAINER.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.chain(of_machine()).min()
}

/// Told in kilobytes.
fn total(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: u64 = lines.next()?.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16 kB\n"), Some(16 * 1024));
        for text in ["", "MemTotal:", "MemTotal: much kB"] {
            assert_eq!(total(text), None);
        }
        assert!(allowed() <= of_machine() || of_machine().is_none());
    }
}
