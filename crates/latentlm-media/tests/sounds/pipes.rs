//! Tests of WAV files of unknown length, of formats for long recordings, and of files that claim more than
//! they hold.

use std::fs;
use std::path::Path;

use latentlm_media::sound::{SoundLimits, read_audio, read_audio_within, seconds, wav_bytes};

use crate::{RATE, fixture, largest_error, tone};

fn error(path: &Path, bytes: &[u8]) -> String {
    fs::write(path, bytes).unwrap();
    let message = read_audio(path).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A complete file whose header has other lengths.
fn with_lengths(sound: &[f32], riff: u32, data: u32) -> Vec<u8> {
    let mut bytes = wav_bytes(sound, RATE);
    bytes[4..8].copy_from_slice(&riff.to_le_bytes());
    bytes[40..44].copy_from_slice(&data.to_le_bytes());
    bytes
}

#[test]
fn wav_files_of_pipes_are_read_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    let sound = tone(RATE, 2000);
    for (program, riff, data) in [
        ("sox", 0x7fff_f024, 0x7fff_f000),
        ("espeak-ng --stdout", 0x7fff_f024, 0x7fff_f000),
        ("arecord", 0x8000_0024, 0x8000_0000),
        ("ffmpeg", 0xffff_ffff, 0xffff_ffff),
        ("one that takes the header off", 0xffff_ffff, 0xffff_ffdb),
        ("one that counts with a sign", 0x7fff_ffff, 0x7fff_ffff),
        ("one that says nothing", 0, 0),
        ("one that says its header", 36, 0),
        ("one that says 0 and all", 0xffff_ffff, 0),
    ] {
        let bytes = with_lengths(&sound, riff, data);
        fs::write(&path, &bytes).unwrap();
        let audio = read_audio(&path).unwrap();
        assert_eq!(audio.sample_rate_hz, RATE, "{program}");
        let error = largest_error(&audio.samples, &sound);
        assert!(error <= 0.5 / 32_768.0, "{program}: {error}");
        // Its length is known without decoding it.
        let none = SoundLimits {
            samples: 0,
            seconds: 0.0,
        };
        assert_eq!(seconds(&path, none).unwrap(), 0.125, "{program}");
        // A pipe may break within a sample.
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read_audio(&path).unwrap().samples.len(), 1999, "{program}");
    }
}

#[test]
fn what_is_truly_cut_or_empty_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    let sound = tone(RATE, 2000);
    for data in [4001, 8000, 0x7000_0000, 0x9000_0000] {
        let message = error(&path, &with_lengths(&sound, data + 36, data));
        assert!(message.contains("a.wav: is cut short"), "{data}: {message}");
    }
    // No samples, followed by another chunk.
    let mut empty = wav_bytes(&[], RATE);
    empty.extend(b"LIST\x04\0\0\0INFO");
    let whole = empty.len() as u32 - 8;
    empty[4..8].copy_from_slice(&whole.to_le_bytes());
    let message = error(&path, &empty);
    assert!(message.contains("0 samples"), "{message}");
    let message = error(&path, &with_lengths(&[], 0, 0));
    assert!(message.contains("0 samples"), "{message}");
    let message = error(&path, b"RIFF\x10\0\0\0WAVEdata\x04\0\0\0abcd");
    assert!(message.contains("missing fmt chunk"), "{message}");
    let message = error(&path, b"RIFF\x10\0\0\0WAVEjunk\xff\xff\xff\xff");
    assert!(message.contains("cut short"), "{message}");
    let message = error(&path, b"RIFF\x10\0\0\0WAVE");
    assert!(message.contains("cut short"), "{message}");
}

/// RF64 and W64, the formats of long recordings, give the samples of the WAV file.
#[test]
fn rf64_and_w64_are_wav() {
    let dir = tempfile::tempdir().unwrap();
    let sound = tone(RATE, 500);
    let plain = wav_bytes(&sound, RATE);
    let (format, data) = (&plain[20..36], &plain[44..]);
    let expected = {
        let path = dir.path().join("a.wav");
        fs::write(&path, &plain).unwrap();
        read_audio(&path).unwrap()
    };
    let rf64 = |mark: &[u8; 4], samples: u64| {
        let mut file = mark.to_vec();
        file.extend(b"\xff\xff\xff\xffWAVEds64");
        file.extend(28u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(samples.to_le_bytes());
        file.extend([0u8; 12]);
        file.extend(b"fmt \x10\0\0\0");
        file.extend(format);
        file.extend(b"data\xff\xff\xff\xff");
        file.extend(data);
        file
    };
    let w64 = |samples: u64| {
        const CHUNK: &[u8] = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
        let mut file = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00".to_vec();
        file.extend(0u64.to_le_bytes());
        file.extend(b"wave");
        file.extend(CHUNK);
        file.extend(b"junk");
        file.extend(CHUNK);
        file.extend(27u64.to_le_bytes());
        file.extend(b"abc\0\0\0\0\0");
        file.extend(b"fmt ");
        file.extend(CHUNK);
        file.extend(40u64.to_le_bytes());
        file.extend(format);
        file.extend(b"data");
        file.extend(CHUNK);
        file.extend((samples + 24).to_le_bytes());
        file.extend(data);
        file
    };
    let bytes = data.len() as u64;
    for (name, file) in [
        ("a.rf64", rf64(b"RF64", bytes)),
        ("b.wav", rf64(b"BW64", bytes)),
        ("c.wav", rf64(b"RF64", 0)),
        ("d.w64", w64(bytes)),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, file).unwrap();
        assert_eq!(read_audio(&path).unwrap(), expected, "{name}");
    }
    for file in [rf64(b"RF64", bytes + 2), w64(bytes + 2)] {
        let message = error(&dir.path().join("e.wav"), &file);
        assert!(message.contains("is cut short"), "{message}");
    }
}

#[test]
fn aiff_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let sound = tone(RATE, 500);
    let mut samples = Vec::new();
    for sample in &sound {
        samples.extend(((sample * 32_768.0).round() as i16).to_be_bytes());
    }
    let mut file = b"FORM".to_vec();
    file.extend((46 + samples.len() as u32).to_be_bytes());
    file.extend(b"AIFFCOMM\0\0\0\x12\0\x01");
    file.extend((sound.len() as u32).to_be_bytes());
    // 16 bits; 16,000 as a number of 80 bits.
    file.extend(b"\0\x10\x40\x0c\xfa\0\0\0\0\0\0\0");
    file.extend(b"SSND");
    file.extend((8 + samples.len() as u32).to_be_bytes());
    file.extend([0u8; 8]);
    file.extend(samples);
    for name in ["a.aiff", "b.aif"] {
        let path = dir.path().join(name);
        fs::write(&path, &file).unwrap();
        let audio = read_audio(&path).unwrap();
        assert_eq!(audio.sample_rate_hz, RATE);
        assert!(largest_error(&audio.samples, &sound) <= 0.5 / 32_768.0);
    }
}

/// Decoded samples are counted, whatever the header says.
#[test]
fn sound_has_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let mut flac = fs::read(fixture("tone.flac")).unwrap();
    // "So many samples: unknown."
    flac[21] &= 0xf0;
    flac[22..26].fill(0);
    fs::write(dir.path().join("open.flac"), &flac).unwrap();
    fs::write(dir.path().join("a.wav"), wav_bytes(&tone(RATE, 4800), RATE)).unwrap();
    let paths = [
        dir.path().join("open.flac"),
        dir.path().join("a.wav"),
        fixture("tone.flac"),
        fixture("tone.mp3"),
        fixture("tone.ogg"),
    ];
    for path in paths {
        let within = |samples, seconds| {
            let limits = SoundLimits { samples, seconds };
            let read = read_audio_within(&path, limits);
            read.map_or_else(
                |error| error.to_string(),
                |audio| audio.samples.len().to_string(),
            )
        };
        let whole = within(usize::MAX, f64::INFINITY);
        assert_eq!(whole, "4800", "{}", path.display());
        assert_eq!(within(4800, 0.31), whole, "{}", path.display());
        let message = within(4799, f64::INFINITY);
        assert!(message.contains("more than 4799 samples"), "{message}");
        let message = within(usize::MAX, 0.25);
        assert!(message.contains("lasts more than 0.25 s"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_are_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.wav");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let message = read_audio(&pipe).unwrap_err().to_string();
    assert!(message.contains("no regular file"), "{message}");
}
