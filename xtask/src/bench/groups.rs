//! Groups of workloads, told by their names.

/// Whether a workload belongs to a group.
pub(super) fn belongs(workload: &str, group: &str) -> bool {
    match group {
        "train" => is_training(workload),
        "sample" => workload.starts_with("sample") || workload.ends_with("decode"),
        "codec" => workload.contains("codec") || workload.ends_with("decode"),
        "decode" => workload.starts_with("backbone") || is_stream(workload),
        "attention" => workload.starts_with("attention"),
        _ => true,
    }
}

/// Whether each unit is the next latent of one stream, which has no batch.
pub(super) fn is_stream(workload: &str) -> bool {
    workload == "speech-decode" || workload.starts_with("codec-")
}

fn is_training(workload: &str) -> bool {
    workload.ends_with("-step") || workload.ends_with("-base")
}

/// Whether both sides train it in `--precision`: a language model or its head, no codec.
pub(super) fn has_precisions(workload: &str) -> bool {
    is_training(workload) && !workload.contains("codec")
}
