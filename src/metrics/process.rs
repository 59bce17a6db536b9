//! What this process is and uses, read from `/proc`. Elsewhere than on Linux these metrics are missing.

use std::fs;

use super::family::{Family, Gauges, Totals, families};

families! {
    BUILD: Gauges<2> = Family::new("millrace_build_info", "Always 1; the labels name the build.", ["version", "commit"]);
    CPU: Totals<0> = Family::new("millrace_process_cpu_seconds_total", "CPU time used, in user and system mode.", []);
    RESIDENT: Gauges<0> = Family::new("millrace_process_resident_memory_bytes", "Memory that the process occupies.", []);
    THREADS: Gauges<0> = Family::new("millrace_process_threads", "Threads of the process.", []);
    OPEN_FDS: Gauges<0> = Family::new("millrace_process_open_fds", "Open file descriptors.", []);
    MAX_FDS: Gauges<0> = Family::new("millrace_process_max_fds", "How many file descriptors may be open.", []);
    START: Gauges<0> = Family::new("millrace_process_start_time_seconds", "When the process started, since the Unix epoch.", []);
}

/// The kernel's unit of CPU time towards user space (`USER_HZ`): 100 on every architecture that Rust and Kafka run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Names the build. Called once at start.
pub fn build_info(version: &str, commit: &str) {
    BUILD.of([&version, &commit]).set(1.0);
}

pub(super) fn read() {
    if let Some((cpu_ticks, start_ticks)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(ticks) {
        CPU.of([]).set(cpu_ticks / TICKS_PER_SECOND);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(|stat| field(stat, "btime ")) {
            START.of([]).set(boot + start_ticks / TICKS_PER_SECOND);
        }
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kibibytes) = field(&status, "VmRSS:") {
            RESIDENT.of([]).set(kibibytes * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            THREADS.of([]).set(threads);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is this listing's own.
        OPEN_FDS.of([]).set(entries.count().saturating_sub(1) as f64);
    }
    if let Some(max) =
        fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(|limits| field(limits, "Max open files"))
    {
        MAX_FDS.of([]).set(max);
    }
}

/// CPU time used and time of the start after boot, from `/proc/self/stat`. See proc_pid_stat(5).
fn ticks(stat: &str) -> Option<(f64, f64)> {
    // The second field is the command in parentheses, which may hold anything; the third follows the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |one_based: usize| fields.get(one_based - 3)?.parse::<f64>().ok();
    Some((number(14)? + number(15)?, number(22)?))
}

/// The number after a name that begins a line.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_strange_command() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1234 1 1";
        assert_eq!(ticks(stat), Some((300.0, 1234.0)));
        assert_eq!(field("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
        assert_eq!(field("Max open files            1024     4096   files", "Max open files"), Some(1024.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        let text = crate::metrics::render();
        for family in FAMILIES.iter().filter(|family| family.name() != "millrace_build_info") {
            assert!(
                text.contains(&format!("\n{} ", family.name())),
                "Expected {}, but the metrics are\n{text}",
                family.name()
            );
        }
    }
}
