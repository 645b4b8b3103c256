//! What the machine knows of this process, under the names that every client of Prometheus gives it.

use std::{fs, time::Duration};

use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// Adds what can be read here; elsewhere than on Linux nothing can.
pub(super) fn register(registry: &mut Registry) {
    let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let registry = registry.sub_registry_with_prefix("process");
    if let Some(used) = cpu() {
        registry.register_with_unit("cpu", "Time of processors that was used", Unit::Seconds, ConstCounter::new(used.as_secs_f64()));
    }
    if let Some(bytes) = resident() {
        registry.register_with_unit("resident_memory", "Memory that is in use", Unit::Bytes, gauge(bytes));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is this list.
        registry.register("open_fds", "Open files and connections", gauge((open.count() as u64).saturating_sub(1)));
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        registry.register("max_fds", "How many there can be", gauge(most));
    }
}

/// The time of processors that all threads have used: the 14th and 15th word of the line, in hundredths of a second, which is what
/// Linux tells programs on every machine.
fn cpu() -> Option<Duration> {
    let line = fs::read_to_string("/proc/self/stat").ok()?;
    // The second word is the program's name in brackets, which may have blanks in it.
    let words: Vec<_> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| words.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Memory in use, from a list in kibibytes.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there() {
        // Some of each was used to come here.
        assert!(resident().unwrap() > 1 << 20);
        let before = cpu().unwrap();
        let mut turns = 0_u64;
        while cpu().unwrap() == before {
            turns = std::hint::black_box(turns + 1);
        }
    }
}
