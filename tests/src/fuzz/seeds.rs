//! Whole files of every kind, made here or taken from the tests' fixtures: small, so that damage meets what is
//! read first.

use std::f64::consts::TAU;
use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use latentlm_data::speech::wav_bytes;
use latentlm_data::{ImageSpec, TextTokenizer, TokenizerKind};
use latentlm_media::MediaError;
use latentlm_media::clip::{RawClip, apng_bytes, gif_bytes};
use latentlm_pipelines::KnownText;
use latentlm_train::LatentCache;
use latentlm_vibevoice::SavedVoice;

use super::{bytes_of, files_of};
use crate::repository;

/// Sample rate of all sounds.
pub(super) const RATE_HZ: u32 = 16_000;

pub(super) const PICTURES_CSV: [&str; 2] = [
    "file_name,text,label\n0.png,picture 0,cat\n1.png,\"picture, 1\",dog\n2.png,,cat\n3.png,x,7\n",
    "sheet;sheet_x;sheet_y;text;split\r\nsheet.png;0;0;a;train\r\nsheet.png;1;0;b;train\r\n\
     sheet.png;0;1;c;test\r\n",
];
pub(super) const PICTURES_JSONL: [&str; 2] = [
    "\u{feff}{\"file_name\": \"0.png\", \"text\": \"picture 0\", \"label\": \"cat\"}\n\
     {\"file_name\": \"1.png\", \"text\": \"picture 1\", \"label\": 3}\n\
     {\"file_name\": \"2.png\", \"label\": \"dog\", \"split\": \"train\"}\n\
     {\"file_name\": \"./3.png\", \"label\": \"dog\", \"split\": \"test\"}\n",
    "{\"sheet\": \"sheet.png\", \"sheet_x\": 0, \"sheet_y\": 0, \"text\": \"one\"}\n\
     {\"sheet\": \"sheet.png\", \"sheet_x\": 1, \"sheet_y\": 1, \"text\": \"two\"}\n",
];
pub(super) const CLIPS_JSONL: [&str; 1] = [
    "{\"file_name\": \"0.y4m\", \"text\": \"clip 0\", \"label\": \"cat\"}\n\
     {\"file_name\": \"walk\", \"text\": \"a walk\", \"label\": 3}\n\
     {\"file_name\": \"./1.y4m\", \"label\": \"dog\", \"split\": \"train\"}\n\
     {\"file_name\": \"2.y4m\", \"split\": \"test\"}\n",
];
pub(super) const SCENES: [&str; 3] = [
    "a seven moves left",
    "a three above a bouncing one",
    "a rising eight left of an eight",
];
/// Tables as LJSpeech, Piper, Coqui and Common Voice have them.
pub(super) const SPEECH_CSV: [&str; 4] = [
    "u0|Sentence 0.|sentence number 0\nu1|Sentence 1.|sentence number 1\nu2|S 2.|two\nu3|S 3.|three\n",
    "u0|bert|sentence number 0\nu1|anna|sentence number 1\nu2|bert|two\nu3|anna|three\n",
    "audio_file|text|speaker_name\nwavs/u0.wav|one|anna\nwavs/u1.wav|two|anna\nwavs/u2.wav|three|bert\n",
    "path,sentence,client_id\nwavs/u0.wav,\"one, \"\"two\"\"\",7\nwavs/u1.wav,three,7\nwavs/u2.wav,four,8\n",
];
pub(super) const SPEECH_JSONL: [&str; 3] = [
    "{\"audio\": \"wavs/u0.wav\", \"text\": \"one\", \"speaker\": \"7\"}\n\
     {\"audio\": \"wavs/u1.wav\", \"text\": \"two\", \"group\": \"digit\", \"split\": \"train\"}\n\
     {\"audio\": \"wavs/u2.wav\", \"text\": \"three\", \"split\": \"test\"}\n",
    "{\"audio_filepath\": \"wavs/u0.wav\", \"text\": \"one\", \"duration\": 0.05}\n\
     {\"audio_filepath\": \"wavs/u1.wav\", \"text\": \"two\", \"duration\": 0.05}\n",
    "{\"file_name\": \"wavs/u0.wav\", \"transcription\": \"one\", \"speaker_id\": 7}\n\
     {\"file_name\": \"wavs/u1.wav\", \"transcription\": \"two\", \"speaker_id\": 8}\n",
];
pub(super) const LIBRISPEECH: [&str; 1] =
    ["1-2-0000 SOME WORDS\n1-2-0001 AND MORE\n1-2-0002 OF\n1-2-0003 THEM\n"];
pub(super) const MLS: [&str; 1] = ["7_9_0\tsome words\n7_9_1\tand more\n7_9_2\tof\n7_9_3\tthem\n"];
/// The transcript of a recording alone, as LibriTTS and VCTK have it.
pub(super) const TRANSCRIPT: [&str; 2] =
    ["Some words, and more.\n", "\u{feff}Cafe\u{301} at 9\r\n"];
pub(super) const PARAGRAPHS: [&str; 2] = [
    "One two three.\n\nFour five,\nsix.\n\nSeven: eight?\n\nNine.\n",
    "\u{feff}Cafe\u{301}\u{a0}at 9\r\n\r\nGr\u{f6}\u{df}e \u{4f60}\u{597d}\r\n\r\nx\r\n",
];
pub(super) const SENTENCES: [&str; 1] =
    ["One two.\nThree.\r\nThree.\n\u{feff}Cafe\u{301}\u{a0}at 9\n"];
pub(super) const OVERRIDES: [&str; 6] = [
    "lm.width=96",
    "codec_train.learning_rate = 1e-3",
    "data.path=a b",
    "data.path=\"a\\\"b\"",
    "codec.conv.multipliers=[2, 4]",
    "lm.precision=bf16",
];
/// Everything in one shard: names of tensors are the shard's business.
pub(super) const PUBLISHED_INDEX: [&str; 1] = [
    "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"a.safetensors\"}}",
];
/// Answers of a model that recognizes speech.
pub(super) const TRANSCRIPTS: [&str; 3] = [
    "assistant\n[{\"Start\":0,\"End\":1.5,\"Speaker\":0,\"Content\":\"hi\"}]\n",
    "[{\"Start\":0.0,\"End\":\"0:02\",\"Content\":\"[Music]\"},\n {\"Start\":2,\"End\":75.25,\"Speaker\":\"N/A\",\
     \"Content\":\"a \\\"b\\\", \\u00e9 {c} \"d\" e\"},{\"Start\":76,\"End\":77,\"Speaker\":\"Anna\",\"Content\":\"\"}]",
    "[]",
];
pub(super) const SCRIPTS: [&str; 4] = [
    "Speaker 1: Good morning.\nYou there.\n\nSpeaker 2: Good night.\n",
    "[{\"speaker\": 1, \"text\": \"hi\"}, {\"speaker\": \"Speaker 2\", \"text\": \"ho\\nhum\"}]",
    "{\"speaker\": 0, \"text\": \"a\"}\n{\"speaker\": \"3\", \"text\": \"b\"}\n",
    "[laughs] Words of one speaker.\n",
];
pub(super) const DATA_LISTS: [&str; 2] = [
    "latentlm data 1 readers 1\n\
     ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 \
     1700000000.000000001-1700000000.000000002-77 0123456789abcdef \"cat/1.png\"\n\
     e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 - 0123456789abcdef \"a \\\"b\\\"\\u{1}\\n\"\n",
    "latentlm data 1 readers 1\n",
];
pub(super) const SKIPPED: [&str; 1] =
    ["a b/1.wav\tis cut short\ncomposed utterances\t`a` is outside\nno tab\n"];

pub(super) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn gradient(width: u32, height: u32) -> DynamicImage {
    let colour = |x: u32, y: u32| Rgb([(x * 9) as u8, (y * 13) as u8, (x + y) as u8]);
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, colour))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, format)
        .expect("a picture that can be encoded");
    file.into_inner()
}

/// A PNG of that many pixels.
pub(super) fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(&gradient(width, height), ImageFormat::Png)
}

/// A picture in every format that is read.
pub(super) fn pictures() -> Vec<Vec<u8>> {
    let picture = gradient(24, 18);
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
    ];
    let mut seeds: Vec<Vec<u8>> = formats.map(|format| encoded(&picture, format)).to_vec();
    let deep = DynamicImage::ImageLuma16(picture.to_luma16());
    let transparent = DynamicImage::ImageRgba8(picture.to_rgba8());
    for picture in [deep, transparent] {
        seeds.push(encoded(&picture, ImageFormat::Png));
        seeds.push(encoded(&picture, ImageFormat::Tiff));
    }
    seeds
}

/// Three frames of four pixels.
pub(super) fn y4m() -> Vec<u8> {
    let mut file = b"YUV4MPEG2 W2 H2 F10:1 Ip A1:1 C420jpeg\n".to_vec();
    for frame in [b"123456", b"abcdef", b"ABCDEF"] {
        file.extend(b"FRAME\n");
        file.extend(frame);
    }
    file
}

/// Three frames, as a writer of clips makes them.
fn written(writer: fn(&RawClip, &Path) -> Result<Vec<u8>, MediaError>) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * 3 * 8 * 6).map(|at: usize| (at * 7) as u8).collect();
    let clip = RawClip {
        pixels: &pixels,
        spec: ImageSpec {
            channels: 3,
            height: 6,
            width: 8,
        },
        rate_hz: 10.0,
    };
    writer(&clip, Path::new("clip")).expect("a clip that can be written")
}

/// A chunk of a RIFF file.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut chunk = name.to_vec();
    chunk.extend((content.len() as u32).to_le_bytes());
    chunk.extend(content);
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

/// An animated WebP.
fn webp() -> Vec<u8> {
    // Flags, then width and height less one.
    let mut file = b"WEBP".to_vec();
    file.extend(chunk(b"VP8X", &[2, 0, 0, 0, 7, 0, 0, 5, 0, 0]));
    file.extend(chunk(b"ANIM", &[0; 6]));
    for blue in [0, 100, 200] {
        let frame = RgbImage::from_fn(8, 6, |x, y| Rgb([x as u8, y as u8, blue]));
        // Position, width and height less one, milliseconds, flags; then the picture without its file's header.
        let mut content = vec![0, 0, 0, 0, 0, 0, 7, 0, 0, 5, 0, 0, 100, 0, 0, 2];
        let still = encoded(&DynamicImage::ImageRgb8(frame), ImageFormat::WebP);
        content.extend(&still[12..]);
        file.extend(chunk(b"ANMF", &content));
    }
    chunk(b"RIFF", &file)
}

/// A clip in every format that is read.
pub(super) fn clips() -> Vec<Vec<u8>> {
    vec![written(gif_bytes), written(apng_bytes), webp(), y4m()]
}

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = (0x0800 + dims.len() as u32).to_be_bytes().to_vec();
    for dim in dims {
        bytes.extend(dim.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

pub(super) fn idx_images() -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * 4 * 5).collect();
    idx(&[3, 4, 5], &pixels)
}

pub(super) fn idx_labels() -> Vec<u8> {
    idx(&[3], &[7, 0, 9])
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes bytes");
    encoder.finish().expect("memory takes bytes")
}

/// A sine of 440 Hz.
pub(super) fn tone(count: usize) -> Vec<f32> {
    let turn = TAU * 440.0 / f64::from(RATE_HZ);
    let sample = |index: usize| (0.5 * (turn * index as f64).sin()) as f32;
    (0..count).map(sample).collect()
}

pub(super) fn wav() -> Vec<u8> {
    wav_bytes(&tone(1600), RATE_HZ)
}

/// AIFF, 16 bits, mono.
fn aiff() -> Vec<u8> {
    let sound = tone(800);
    let level = |sample: &f32| ((sample * 32_768.0).round() as i16).to_be_bytes();
    let samples: Vec<u8> = sound.iter().flat_map(level).collect();
    let mut file = b"FORM".to_vec();
    file.extend((46 + samples.len() as u32).to_be_bytes());
    file.extend(b"AIFFCOMM\0\0\0\x12\0\x01");
    file.extend((sound.len() as u32).to_be_bytes());
    // 16 bits; 16,000 as a number of 80 bits.
    file.extend(b"\0\x10\x40\x0c\xfa\0\0\0\0\0\0\0");
    file.extend(b"SSND");
    file.extend((8 + samples.len() as u32).to_be_bytes());
    file.extend([0; 8]);
    file.extend(samples);
    file
}

/// A sound in every format that is read.
pub(super) fn sounds() -> Vec<Vec<u8>> {
    let fixtures = repository("crates/latentlm-media/tests/fixtures");
    let names = ["mulaw.wav", "tone.flac", "tone.mp3", "tone.ogg"];
    let files = names.iter().map(|name| bytes_of(&fixtures.join(name)));
    [wav(), aiff()].into_iter().chain(files).collect()
}

/// Vocabularies that we learn, and those of shipped runs.
pub(super) fn tokenizers() -> Vec<Vec<u8>> {
    let texts = ["three five nine", "five three", "nine nine three"].map(String::from);
    let mut seeds = Vec::new();
    for kind in [TokenizerKind::ByteLevelBpe, TokenizerKind::Characters] {
        let tokenizer = TextTokenizer::train(kind, &texts, 270).expect("words to learn");
        let json = tokenizer.to_json().expect("a vocabulary can be written");
        seeds.push(json.into_bytes());
    }
    for run in ["speech", "mllm"] {
        let folder = repository("tests/earlier-runs").join(run);
        seeds.push(bytes_of(
            &folder.join("checkpoints/lm/step-2/tokenizer.json"),
        ));
    }
    seeds
}

pub(super) fn known_texts() -> Vec<Vec<u8>> {
    let known = KnownText::of(["three five", "Caf\u{e9}, nine!"]);
    vec![known.to_json().expect("texts can be written").into_bytes()]
}

pub(super) fn latents() -> Vec<Vec<u8>> {
    let cache = LatentCache {
        dim: 3,
        lengths: vec![1, 3],
        labels: vec![4, 1],
        parameters: (0..12).map(|i| i as f32 * 0.3 - 1.0).collect(),
        fingerprint: "abc".into(),
    };
    let folder = tempfile::tempdir().expect("a folder for scratch files");
    let path = folder.path().join("latents.safetensors");
    cache.write(&path).expect("a small file");
    vec![bytes_of(&path)]
}

/// Every recipe that ships.
pub(super) fn recipes() -> Vec<Vec<u8>> {
    let folders = ["image", "tts", "mllm", "video"].map(|name| repository("configs").join(name));
    let files = folders.iter().map(|folder| files_of(folder, ""));
    files.flatten().collect()
}

fn of_runs(name: &str) -> Vec<Vec<u8>> {
    let runs = ["image", "speech", "mllm"].map(|run| repository("tests/earlier-runs").join(run));
    runs.map(|run| bytes_of(&run.join(name))).to_vec()
}

pub(super) fn manifests() -> Vec<Vec<u8>> {
    of_runs("checkpoints/lm/step-2/manifest.json")
}

pub(super) fn image_manifest() -> Vec<Vec<u8>> {
    manifests().into_iter().take(1).collect()
}

pub(super) fn metrics() -> Vec<Vec<u8>> {
    of_runs("metrics.jsonl")
}

pub(super) fn lm_weights() -> Vec<Vec<u8>> {
    let folder = repository("tests/earlier-runs/image/checkpoints/lm/step-2");
    vec![bytes_of(&folder.join("model-ema.safetensors"))]
}

fn fixture(name: &str) -> Vec<u8> {
    bytes_of(&repository("tests/fixtures").join(name))
}

pub(super) fn vibevoice_config() -> Vec<Vec<u8>> {
    vec![fixture("vibevoice-small/config.json")]
}

pub(super) fn published_configs() -> Vec<Vec<u8>> {
    let others = [
        "vibevoice-tokenizer-small",
        "vibevoice-realtime-one",
        "vibevoice-asr-one",
    ];
    let others = others.map(|folder| fixture(&format!("{folder}/config.json")));
    vibevoice_config().into_iter().chain(others).collect()
}

/// A voice as `torch.save` writes it, and as safetensors.
pub(super) fn voices() -> Vec<Vec<u8>> {
    let saved = fixture("vibevoice-realtime-one/voice.pt");
    let voice = SavedVoice::from_bytes(&saved, Path::new("voice.pt")).expect("a whole voice");
    let again = voice.to_safetensors().expect("a voice can be written");
    vec![saved, again]
}

/// A model, a vocabulary and a voice.
pub(super) fn ggufs() -> Vec<Vec<u8>> {
    ["realtime", "tokenizer", "voice"]
        .map(|name| fixture(&format!("gguf/{name}.gguf")))
        .to_vec()
}

pub(super) fn published_weights() -> Vec<Vec<u8>> {
    vec![fixture("vibevoice-tokenizer-small/model.safetensors")]
}
