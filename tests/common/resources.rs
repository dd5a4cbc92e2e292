//! What this process takes of the system, as Linux counts it, for tests of what must not grow.

#![allow(dead_code, reason = "each test uses a part")]

use std::fs;

/// Memory in use, threads and open files of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) resident_kib: u64,
    pub(crate) num_threads: usize,
    pub(crate) num_files: usize,
}

impl Resources {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("Linux tells a process's state");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory is in it");
        let resident_kib = resident.trim().trim_end_matches(" kB").trim().parse().expect("it is a number");
        let entries = |folder: &str| fs::read_dir(folder).expect("Linux lists what a process has").count();
        Self { resident_kib, num_threads: entries("/proc/self/task"), num_files: entries("/proc/self/fd") }
    }

    /// Whichever was more, of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.max(other.resident_kib),
            num_threads: self.num_threads.max(other.num_threads),
            num_files: self.num_files.max(other.num_files),
        }
    }
}

/// The number of threads of this process that belong to a loader.
pub(crate) fn num_loader_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux lists a process's threads");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("procession-"))
        .count()
}
