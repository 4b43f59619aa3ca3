//! Memory of this process, and caches of this machine.

/// Peak resident memory of this process so far, in bytes. `None` if the system does not report it.
pub fn peak_memory_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// Resident memory of this process now, in bytes. `None` if the system does not report it.
#[cfg(feature = "bench")]
pub fn memory_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// Memory of this machine, in bytes. `None` if the system does not report it.
#[cfg(all(feature = "bench", feature = "published"))]
pub fn machine_memory_bytes() -> Option<f64> {
    latentlm_eval::memory_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The processor's caches, as far as the system reports them.
#[cfg(feature = "bench")]
pub fn caches() -> latentlm_bench::Caches {
    let size = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size");
    let kib = size.ok().and_then(|size| {
        let digits = size.trim().strip_suffix('K')?;
        digits.parse::<usize>().ok()
    });
    latentlm_bench::Caches {
        bytes: kib.unwrap_or(0) * 1024,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}
