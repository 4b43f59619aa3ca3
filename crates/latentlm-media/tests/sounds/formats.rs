//! Tests of sound files: depths, formats, rates, damaged files.

use std::fs;
use std::path::Path;

use hound::SampleFormat;
use latentlm_media::sound::{
    SoundLimits, WavFile, WavStream, finish_wav_stream, read_audio, read_sound, seconds, wav_bytes,
    write_wav,
};

use crate::{RATE, fixture, largest_error, tone};

fn error(path: &Path) -> String {
    read_audio(path).unwrap_err().to_string()
}

fn wav_spec(channels: u16, rate: u32, bits: u16, format: SampleFormat) -> hound::WavSpec {
    hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: bits,
        sample_format: format,
    }
}

#[test]
fn every_depth_rate_and_channel_count_reads_alike() {
    let dir = tempfile::tempdir().unwrap();
    // One quantization step of each depth; samples are truncated, not rounded.
    let depths = [
        (8, SampleFormat::Int, 1.0 / 128.0),
        (16, SampleFormat::Int, 1.0 / 32_768.0),
        (24, SampleFormat::Int, 1e-6),
        (32, SampleFormat::Int, 1e-6),
        (32, SampleFormat::Float, 1e-6),
    ];
    for (bits, format, step) in depths {
        for (channels, rate) in [(1, 8_000), (2, 44_100), (6, 48_000)] {
            let path = dir.path().join(format!("{bits}-{channels}.WAV"));
            let sound = tone(rate, 800);
            let spec = wav_spec(channels, rate, bits, format);
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            for sample in &sound {
                for channel in 0..channels {
                    // The differences between channels average to zero.
                    let middle = f32::from(channels - 1) / 2.0;
                    let value = sample + 0.05 * (f32::from(channel) - middle);
                    match format {
                        SampleFormat::Float => writer.write_sample(value).unwrap(),
                        SampleFormat::Int => {
                            let scale = (1i64 << (bits - 1)) as f32;
                            writer.write_sample((value * scale) as i32).unwrap();
                        }
                    }
                }
            }
            writer.finalize().unwrap();
            let audio = read_audio(&path).unwrap();
            assert_eq!(audio.sample_rate_hz, rate);
            let error = largest_error(&audio.samples, &sound);
            assert!(error < step, "{bits} bits, {channels} channels: {error}");
        }
    }
}

/// Left is the opposite of right: as one channel, nothing is left. Silence is no error.
#[test]
fn channels_that_cancel_each_other_out_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("against.wav");
    let write = |left: f32, right: f32| {
        let spec = wav_spec(2, RATE, 16, SampleFormat::Int);
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for sample in tone(RATE, 800) {
            for value in [left * sample, right * sample] {
                writer.write_sample((value * 32_767.0) as i16).unwrap();
            }
        }
        writer.finalize().unwrap();
    };
    write(1.0, -1.0);
    let told = "against.wav: is silent as one channel: its channels cancel each other out";
    let message = error(&path);
    assert!(message.ends_with(told), "{message}");
    let sound = read_sound(&path, SoundLimits::default()).unwrap();
    assert!(sound.silence().is_some_and(|reason| told.ends_with(reason)));
    // A quarter is left.
    write(1.0, -0.5);
    let audio = read_audio(&path).unwrap();
    let expected: Vec<f32> = tone(RATE, 800).iter().map(|x| 0.25 * x).collect();
    // Two steps of 16 bits: one of rounding in each channel.
    assert!(largest_error(&audio.samples, &expected) < 2.0 / 32_768.0);
    write(0.0, 0.0);
    assert_eq!(read_audio(&path).unwrap().samples, [0.0; 800]);
}

/// A WAVEFORMATEXTENSIBLE file of one channel: samples in `container` bits, of which `valid` count.
fn extensible(container: u16, valid: u16, data: &[u8]) -> Vec<u8> {
    let bytes = container / 8;
    let mut file = b"RIFF".to_vec();
    file.extend((60 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(40u32.to_le_bytes());
    file.extend(0xfffe_u16.to_le_bytes());
    file.extend(1u16.to_le_bytes()); // channels
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * u32::from(bytes)).to_le_bytes());
    file.extend(bytes.to_le_bytes()); // a frame
    file.extend(container.to_le_bytes());
    file.extend(22u16.to_le_bytes()); // bytes that follow
    file.extend(valid.to_le_bytes());
    file.extend(4u32.to_le_bytes()); // the speaker in the middle
    // The subformat PCM.
    file.extend(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// A tone in the uppermost `valid` of `container` bits.
fn extensible_tone(container: u16, valid: u16, count: usize) -> Vec<u8> {
    let level = |sample: &f32| {
        let level = (sample * (1i64 << (valid - 1)) as f32).round() as i64;
        (level << (container - valid)).to_le_bytes()
    };
    let levels = tone(RATE, count);
    let data = levels.iter().map(level);
    let data: Vec<u8> = data
        .flat_map(|bytes| bytes.into_iter().take(usize::from(container / 8)))
        .collect();
    extensible(container, valid, &data)
}

/// Hound reads samples that fill their containers, Symphonia all others.
#[test]
fn depths_below_their_container_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (container, valid) in [(16, 16), (16, 12), (24, 20), (32, 16), (32, 20)] {
        let path = dir.path().join("a.wav");
        fs::write(&path, extensible_tone(container, valid, 500)).unwrap();
        let audio = read_audio(&path).unwrap();
        assert_eq!(audio.sample_rate_hz, RATE);
        // Half a step is lost to rounding; the rest is float32's own.
        let bound = 0.6 / (1i64 << (valid - 1)) as f32;
        let error = largest_error(&audio.samples, &tone(RATE, 500));
        assert!(error < bound, "{valid} of {container} bits: {error}");
    }
}

/// In a damaged header the number of valid bits can be anything. 0 means all bits.
#[test]
fn impossible_depths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    for valid in [17, 33, 64, 65, 200, u16::MAX] {
        fs::write(&path, extensible(16, valid, &[0; 64])).unwrap();
        let message = error(&path);
        assert!(message.contains("not supported"), "{valid}: {message}");
    }
    fs::write(&path, extensible(16, 0, &[0, 64].repeat(8))).unwrap();
    assert_eq!(read_audio(&path).unwrap().samples, [0.5; 8]);
}

#[test]
fn compressed_formats_read_as_the_tone_that_they_hold() {
    // FLAC loses the rounding to 16 bits. The others lose 0.026, 0.009 and 0.012, doubled here; a
    // sample of delay would be an error of 0.086 at 16 kHz, 0.17 at 8 kHz.
    for (name, rate, bound) in [
        ("tone.flac", 16_000, 1.0 / 32_768.0),
        ("tone.mp3", 16_000, 0.052),
        ("tone.ogg", 16_000, 0.018),
        ("mulaw.wav", 8_000, 0.024),
    ] {
        let audio = read_audio(&fixture(name)).unwrap();
        assert_eq!(audio.sample_rate_hz, rate, "{name}");
        let expected = tone(rate, rate as usize * 3 / 10);
        assert_eq!(audio.samples.len(), expected.len(), "{name}");
        // The tone's onset and end are smeared by the filter.
        let inside = 200..expected.len() - 200;
        let error = largest_error(&audio.samples[inside.clone()], &expected[inside]);
        assert!(error <= bound, "{name}: {error}");
    }
    let message = error(&fixture("adpcm.wav"));
    assert!(
        message.contains("adpcm.wav: is of a codec that is not supported"),
        "{message}"
    );
}

#[test]
fn written_sound_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let sound = tone(RATE, 801);
    let (whole, streamed) = (dir.path().join("a.wav"), dir.path().join("b.wav"));
    write_wav(&whole, &sound, RATE).unwrap();
    let read = read_audio(&whole).unwrap();
    assert_eq!(read.sample_rate_hz, RATE);
    assert!(largest_error(&read.samples, &sound) <= 0.5 / 32_768.0);
    // Writing the samples again gives the same bytes.
    assert_eq!(wav_bytes(&read.samples, RATE), fs::read(&whole).unwrap());

    let mut stream = WavStream::begin(fs::File::create(&streamed).unwrap(), RATE).unwrap();
    for part in sound.chunks(100) {
        stream.write(part).unwrap();
    }
    // A stream on standard output, or one that is still being written, has no length in its header.
    let open = fs::read(&streamed).unwrap();
    assert_eq!(
        (&open[4..8], &open[40..44]),
        (&[0xff; 4][..], &[0xff; 4][..])
    );
    assert_eq!(read_audio(&streamed).unwrap(), read);
    finish_wav_stream(&mut stream.into_inner(), RATE).unwrap();
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&streamed).unwrap());

    let missing = dir.path().join("none/c.wav");
    assert!(write_wav(&missing, &sound, RATE).is_err());
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 2, "no temporary file is left");
}

#[cfg(unix)]
#[test]
fn sound_goes_into_a_pipe() {
    use std::io::Read;

    let dir = tempfile::tempdir().unwrap();
    let (sound, pipe) = (tone(RATE, 500), dir.path().join("pipe.wav"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // Opened for both, a pipe waits for nobody, and the short sound fits into its buffer.
    let mut both = fs::File::options();
    let mut reader = both.read(true).write(true).open(&pipe).unwrap();
    write_wav(&pipe, &sound, RATE).unwrap();
    let mut heard = vec![0; 1 << 16];
    let count = reader.read(&mut heard).unwrap();
    assert_eq!(heard[..count], wav_bytes(&sound, RATE));
    let message = WavFile::create(&pipe, RATE).unwrap_err().to_string();
    assert!(
        message.ends_with("pipe.wav: is a stream, not a file"),
        "{message}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_gets_its_name_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (sound, path) = (tone(RATE, 500), dir.path().join("a.wav"));
    fs::write(&path, "what was there before").unwrap();
    let begin = || {
        let mut file = WavFile::create(&path, RATE).unwrap();
        sound.chunks(77).for_each(|part| file.write(part).unwrap());
        file
    };
    drop(begin());
    assert_eq!(fs::read(&path).unwrap(), b"what was there before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    begin().finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), wav_bytes(&sound, RATE));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let nowhere = WavFile::create(&dir.path().join("none/a.wav"), RATE);
    let message = nowhere.unwrap_err().to_string();
    assert!(message.contains("cannot write in"), "{message}");
}

#[test]
fn what_is_no_sound_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = wav_bytes(&tone(RATE, 800), RATE);
    let flac = fs::read(fixture("tone.flac")).unwrap();
    let mp3 = fs::read(fixture("tone.mp3")).unwrap();
    let mut fast = good.clone();
    fast[24..28].copy_from_slice(&4_000_000_000u32.to_le_bytes());
    // 8 bits, because the field for bytes per second is too small for more.
    fast[32..34].copy_from_slice(&1u16.to_le_bytes());
    fast[28..32].copy_from_slice(&4_000_000_000u32.to_le_bytes());
    fast[34..36].copy_from_slice(&8u16.to_le_bytes());
    let mut nan = Vec::new();
    let spec = wav_spec(1, RATE, 32, SampleFormat::Float);
    let mut writer = hound::WavWriter::new(std::io::Cursor::new(&mut nan), spec).unwrap();
    for value in [0.5, f32::NAN, 0.5] {
        writer.write_sample(value).unwrap();
    }
    writer.finalize().unwrap();
    for (name, bytes, part) in [
        ("empty.wav", &b""[..], "is an empty file"),
        ("empty.flac", b"", "is an empty file"),
        (
            "text.wav",
            b"this is no sound at all, is it?",
            "is no WAV file",
        ),
        (
            "text.flac",
            b"this is no sound at all, is it?",
            "is no WAV, FLAC",
        ),
        (
            "text.mp3",
            &b"neither is this ".repeat(500),
            "is no WAV, FLAC",
        ),
        ("header.wav", &good[..30], "is cut short"),
        ("half.wav", &good[..401], "is cut short"),
        ("half.flac", &flac[..flac.len() / 2], "cut short"),
        ("half.mp3", &mp3[..mp3.len() / 2], "cut short"),
        ("silent.wav", &wav_bytes(&[], RATE), "0 samples"),
        ("nan.wav", &nan, "no numbers"),
        ("fast.wav", &fast, "4000000000 samples a second"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let message = error(&path);
        assert!(message.contains(part), "{name}: {message}");
        assert!(
            message.contains(name) && !message.contains('\n'),
            "{message}"
        );
    }
    assert!(error(&dir.path().join("none.wav")).contains("none.wav"));
}

/// Every byte of every format flipped, and every length cut.
#[test]
fn no_damage_panics() {
    let dir = tempfile::tempdir().unwrap();
    let short = wav_bytes(&tone(RATE, 60), RATE);
    let mut files = vec![
        ("a.wav".to_owned(), short),
        ("extensible.wav".to_owned(), extensible_tone(16, 16, 60)),
        ("odd.wav".to_owned(), extensible_tone(32, 20, 60)),
    ];
    for name in [
        "tone.flac",
        "tone.mp3",
        "tone.ogg",
        "mulaw.wav",
        "adpcm.wav",
    ] {
        files.push((name.to_owned(), fs::read(fixture(name)).unwrap()));
    }
    for (name, good) in files {
        // All bytes of the header, and some of the rest.
        let places = (0..good.len()).filter(|at| *at < 100 || at % 127 == 0);
        for at in places {
            let mut flipped = good.clone();
            flipped[at] ^= 0xff;
            for bytes in [&flipped, &good[..at]] {
                let path = dir.path().join(&name);
                fs::write(&path, bytes).unwrap();
                if let Ok(audio) = read_audio(&path) {
                    assert!(audio.samples.iter().all(|x| x.is_finite()), "{name} {at}");
                }
                if let Ok(length) = seconds(&path, SoundLimits::default()) {
                    assert!(length.is_finite(), "{name} {at}");
                }
            }
        }
    }
}
