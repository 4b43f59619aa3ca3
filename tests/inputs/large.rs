//! Files near the bounds of their readers, all of them refused: none takes a gigabyte of memory beside its own
//! contents. Each is read in a process of its own.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use image::codecs::jpeg::JpegEncoder;
use latentlm_data::speech::{SpeechBounds, SpeechDataset, SpeechSpec};
use latentlm_data::{ClipDataset, ClipSpec, ImageSpec, ReadOptions, Split};
use latentlm_media::clip::{RawClip, gif_bytes};
use latentlm_media::{MAX_PICTURE_BYTES, decode_whole};
use latentlm_tests::fuzz::target;

use crate::WORKERS;
use crate::child::peak_kib;
use crate::watch::MOST_KIB;

/// The environment variable that makes a process a child: the number of a file.
const CHILD: &str = "LATENTLM_LARGE_FILE";
/// The child's test.
const NAME: &str = "large::reads_the_file_it_is_asked_to";

/// The name of the reader of a corpus, which decodes nothing.
const CORPUS: &str = "corpus";
/// The name of the reader of clips with its own bounds.
const CLIPS: &str = "clips";
/// Side of the frames of a long GIF in pixels. Decoded, all of them would take 350 MiB. Reading takes about as long as
/// other files here; for frames of 256 x 256, which would take more than a gigabyte, it would be seven times as long.
const GIF_SIDE: usize = 96;
/// Therefore the bound is as much smaller.
const GIF_PARTS: u64 = 8;
/// The name of the reader of pictures, on more threads than fit into memory without a bound.
const PICTURES: &str = "pictures";
/// Their number.
const PICTURE_THREADS: usize = 8;
/// Pictures, and therefore the bound, are this much smaller than they may be.
const PICTURE_PARTS: u64 = 8;
/// Recordings of Common Voice's English table.
const COMMON_VOICE: usize = 1_100_000;
/// That table is read in part, with bounds that are as much smaller: what it takes grows with its lines.
const CORPUS_PARTS: usize = 4;

/// A reader, by the name of its fuzz target, and the contents of a file.
type Large = (&'static str, fn() -> Vec<u8>);

/// Many short records, and few long ones; JSON and headers of as many values as are read, and of more.
const LARGE: [Large; 24] = [
    ("pictures-jsonl", || b"{}\n".repeat(499_999)),
    ("pictures-jsonl", || b"{}\n".repeat(3_000_000)),
    ("pictures-jsonl", || {
        b"{\"sheet\":\"a\",\"sheet_x\":1,\"sheet_y\":1}\n".repeat(1_999_999)
    }),
    ("pictures-csv", || {
        let header = b"file_name\n".to_vec();
        [header, b"a\n".repeat(499_999)].concat()
    }),
    ("pictures-csv", || vec![b','; 100_000_000]),
    ("speech-csv", || b"|a\n".repeat(1_499_999)),
    ("speech-csv", || {
        [b"a".to_vec(), vec![b'|'; 7_900_000]].concat()
    }),
    ("speech-jsonl", || {
        [b"[".to_vec(), b"0,".repeat(1_499_000), b"0]".to_vec()].concat()
    }),
    ("speech-csv", || {
        [b"u0|x|".to_vec(), b"a ".repeat(75_000_000)].concat()
    }),
    (CORPUS, common_voice),
    (CLIPS, long_gif),
    (PICTURES, cut_jpeg),
    ("text", || b"a\n\n".repeat(16_000_001)),
    ("sentences", || vec![b'a'; 30_000_000]),
    ("tokenizer", many_tokens),
    ("tokenizer", || objects("{\"normalizer\":[", 499_900, "]}")),
    ("published-config", || objects("{\"x\":[", 49_900, "]}")),
    ("published-config", || objects("{\"x\":[", 4_700_000, "]}")),
    ("published-index", || {
        objects("{\"weight_map\":[", 49_900, "]}")
    }),
    ("manifest", unknown_keys),
    ("script", || objects("[", 99_900, "]")),
    ("latents", many_tensors),
    ("published-weights", many_tensors),
    ("weights", many_tensors),
];

/// Recordings of the part of that table.
const RECORDINGS: usize = COMMON_VOICE / CORPUS_PARTS;

/// A part of a table as Common Voice's English one, which is read; its last line is faulty.
fn common_voice() -> Vec<u8> {
    let mut text = String::from(
        "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\t\
         accents\tvariant\tlocale\tsegment\n",
    );
    // Padding by a formatter takes longer than all the rest.
    let zeros = "0".repeat(120);
    for index in 0..RECORDINGS {
        let speaker = index % 50_000;
        writeln!(
            text,
            "{zeros}{speaker:08x}\ta.wav\t{}{index:08x}\tSentence number {index}, as long as they usually are.\t\
             \t2\t0\t\t\tEngland English\t\ten\t",
            &zeros[..56]
        )
        .expect("memory");
    }
    text.push_str("x\ta.wav\n");
    text.into_bytes()
}

/// A GIF of one frame more than a clip may have. The last frame of two is repeated: to make each would take longer than
/// to read it.
fn long_gif() -> Vec<u8> {
    let spec = frame_of_gif();
    let written = |frames: usize| {
        let pixels = vec![200; frames * spec.bytes()];
        let clip = RawClip {
            pixels: &pixels,
            spec,
            rate_hz: 10.0,
        };
        gif_bytes(&clip, Path::new("long.gif")).unwrap()
    };
    let (one, two) = (written(1), written(2));
    // Both end with one byte that says so.
    let (begin, end) = one.split_at(one.len() - 1);
    let frame = &two[begin.len()..two.len() - end.len()];
    let frames = frame.repeat(ReadOptions::default().max_clip_frames);
    [begin, &frames, end].concat()
}

/// A grey JPEG near the bound without its last rows. It is found to be cut after it was decoded.
fn cut_jpeg() -> Vec<u8> {
    let side = (MAX_PICTURE_BYTES / PICTURE_PARTS).isqrt() as u32 - 1;
    let mut bytes = Vec::new();
    let picture = image::GrayImage::from_pixel(side, side, image::Luma([99]));
    JpegEncoder::new(&mut bytes).encode_image(&picture).unwrap();
    bytes.truncate(bytes.len() * 9 / 10);
    bytes
}

fn picture_refusal(folder: &Path, bytes: &[u8]) -> String {
    let file = folder.join("cut.jpg");
    fs::write(&file, bytes).unwrap();
    let told = thread::scope(|scope| {
        let read = || decode_whole(&file, MAX_PICTURE_BYTES / PICTURE_PARTS).unwrap_err();
        let readers: Vec<_> = (0..PICTURE_THREADS).map(|_| scope.spawn(read)).collect();
        let mut errors = readers.into_iter().map(|reader| reader.join().unwrap());
        errors.next_back().unwrap().to_string()
    });
    assert!(told.contains("is cut: it holds"), "{told}");
    told
}

fn frame_of_gif() -> ImageSpec {
    ImageSpec {
        channels: 1,
        height: GIF_SIDE,
        width: GIF_SIDE,
    }
}

/// Why a file is refused.
fn refusal(name: &str, folder: &Path, bytes: &[u8]) -> String {
    match name {
        CORPUS => corpus_refusal(folder, bytes),
        CLIPS => clip_refusal(folder, bytes),
        PICTURES => picture_refusal(folder, bytes),
        _ => {
            let mut reader = (target(name).unwrap().reader)(folder);
            reader(bytes).unwrap_err()
        }
    }
}

fn clip_refusal(folder: &Path, bytes: &[u8]) -> String {
    fs::write(folder.join("long.gif"), bytes).unwrap();
    let spec = ClipSpec {
        frames: 17,
        rate_hz: 10.0,
        picture: frame_of_gif(),
    };
    let error = ClipDataset::open_both(folder, spec, ReadOptions::default()).unwrap_err();
    let told = error.to_string();
    // All frames before it were read.
    let part = "long.gif: more than 10000 frames";
    assert!(told.contains(part), "{told}");
    told
}

fn corpus_refusal(folder: &Path, bytes: &[u8]) -> String {
    fs::write(folder.join("train.tsv"), bytes).unwrap();
    fs::write(folder.join("a.wav"), b"").unwrap();
    let spec = SpeechSpec {
        sample_rate_hz: 16_000,
        loudness_dbfs: None,
        trim_silence: false,
        min_seconds: 0.0,
        max_seconds: 10.0,
    };
    let whole = SpeechBounds::default();
    let bounds = SpeechBounds {
        table_bytes: whole.table_bytes / CORPUS_PARTS as u64,
        table_lines: whole.table_lines / CORPUS_PARTS,
        ..whole
    };
    let error = SpeechDataset::open_within(folder, spec, Split::Train, bounds).unwrap_err();
    let told = error.to_string();
    // All lines before it were taken.
    let part = format!("line {}: has 2 fields", RECORDINGS + 2);
    assert!(told.contains(&part), "{told}");
    told
}

/// A vocabulary without merges.
fn many_tokens() -> Vec<u8> {
    let mut json =
        String::from("{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {");
    for index in 0..2_400_000 {
        let comma = if index == 0 { "" } else { "," };
        write!(json, "{comma}\"{index:x}\":{index}").expect("memory");
    }
    json.push_str("}}}");
    json.into_bytes()
}

/// A list of objects between the beginning and the end of a JSON text. In memory, each takes a hundred times its text.
fn objects(begin: &str, count: usize, end: &str) -> Vec<u8> {
    format!("{begin}{}0{end}", "{\"\":0},".repeat(count)).into_bytes()
}

/// A manifest whose recipe has keys that no recipe has.
fn unknown_keys() -> Vec<u8> {
    let mut json = String::from("{\"recipe\":{\"lm\":{");
    for index in 0..249_900 {
        write!(json, "\"{index:x}\":0,").expect("memory");
    }
    json.push_str("\"\":0}}}");
    json.into_bytes()
}

/// The header of a safetensors file of as many tensors as are read, without numbers.
fn many_tensors() -> Vec<u8> {
    let mut header = String::from("{");
    for index in 0..95_000 {
        let comma = if index == 0 { "" } else { "," };
        write!(
            header,
            "{comma}\"{index:x}\":{{\"dtype\":\"U8\",\"shape\":[1,0],\"data_offsets\":[0,0]}}"
        )
        .expect("memory");
    }
    header.push('}');
    let length = (header.len() as u64).to_le_bytes();
    [length.as_slice(), header.as_bytes()].concat()
}

/// Does nothing unless [`CHILD`] is set.
#[test]
fn reads_the_file_it_is_asked_to() {
    let Ok(index) = env::var(CHILD) else {
        return;
    };
    let (name, bytes) = LARGE[index.parse::<usize>().unwrap()];
    let bytes = bytes();
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(name, folder.path(), &bytes);
    // What the test itself holds does not count.
    let own_kib = bytes.len() as u64 >> 10;
    let peak = peak_kib("self").saturating_sub(own_kib);
    let most = match name {
        CORPUS => MOST_KIB / CORPUS_PARTS as u64,
        CLIPS => MOST_KIB / GIF_PARTS,
        PICTURES => MOST_KIB / PICTURE_PARTS,
        _ => MOST_KIB,
    };
    assert!(peak < most, "{} MiB: {refused}", peak >> 10);
}

/// Has a file read by another process, which must end well.
fn read_elsewhere(index: usize) {
    let (name, _) = LARGE[index];
    let output = Command::new(env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, index.to_string())
        .env("RUST_BACKTRACE", "0")
        // Where glibc is told to keep memory, each thread would keep its own.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}, file {index}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "{name}: {text}");
}

#[test]
fn refused_files_near_their_bounds_take_less_than_a_gigabyte() {
    let next = AtomicUsize::new(0);
    let work = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= LARGE.len() {
            break;
        }
        read_elsewhere(index);
    };
    // A panic of a worker is one of the scope.
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
}
