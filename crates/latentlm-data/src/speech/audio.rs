//! Sound files in, WAV files out.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use hound::{SampleFormat, WavReader};
use rubato::audioadapter_buffers::owned::InterleavedOwned;
use rubato::{Fft, FixedSync, Resampler};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::TrackType;
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::MediaSourceStream;

use crate::error::{DataError, io_error};

/// Endings of the files that are taken for sound.
pub(super) const ENDINGS: [&str; 5] = ["wav", "flac", "mp3", "ogg", "oga"];
/// Frames that the resampler takes at once.
const CHUNK: usize = 1024;

/// One channel of sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// Samples a second.
    pub sample_rate_hz: u32,
}

impl Audio {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate_hz)
    }

    /// The same sound at another rate, band-limited, without delay.
    ///
    /// # Panics
    /// If a rate is 0.
    pub fn resampled(self, sample_rate_hz: u32) -> Self {
        if self.sample_rate_hz == sample_rate_hz || self.samples.is_empty() {
            return Self {
                sample_rate_hz,
                ..self
            };
        }
        let frames = self.samples.len();
        let rates = [self.sample_rate_hz, sample_rate_hz].map(|rate| rate as usize);
        // The rates are positive, the buffer holds what it says it holds: nothing can fail.
        let resample = || {
            let mut resampler =
                Fft::<f32>::new(rates[0], rates[1], CHUNK, 1, FixedSync::Both).ok()?;
            let input = InterleavedOwned::new_from(self.samples, 1, frames).ok()?;
            Some(resampler.process_all(&input, frames, None).ok()?.take_data())
        };
        Self {
            samples: resample().expect("a resampler between positive rates"),
            sample_rate_hz,
        }
    }
}

/// Reads a sound file: WAV of any rate, depth and number of channels, FLAC, MP3 or OGG Vorbis. The
/// channels are averaged.
///
/// # Errors
/// If the file can't be read, is no sound, or holds no or not finite samples.
pub fn read_audio(path: &Path) -> Result<Audio, DataError> {
    let audio = match is_wav(path) {
        true => read_wav(path).or_else(|error| read_other(path).map_err(|_| error)),
        false => read_other(path),
    }?;
    if audio.samples.is_empty() {
        return Err(DataError::malformed(path, "holds no sound: 0 samples"));
    }
    if !audio.samples.iter().all(|sample| sample.is_finite()) {
        return Err(DataError::malformed(path, "has samples that are no numbers"));
    }
    Ok(audio)
}

/// Length of a sound file, by its header where that says it.
///
/// # Errors
/// If the file can't be read or is no sound.
pub(super) fn seconds(path: &Path) -> Result<f64, DataError> {
    if is_wav(path)
        && let Ok(reader) = WavReader::new(open(path)?)
        && reader.spec().sample_rate > 0
    {
        return Ok(f64::from(reader.duration()) / f64::from(reader.spec().sample_rate));
    }
    read_audio(path).map(|audio| audio.seconds())
}

fn is_wav(path: &Path) -> bool {
    ending(path).as_deref() == Some("wav")
}

/// The file name's ending in lower case.
pub(super) fn ending(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_str()?;
    Some(ending.to_ascii_lowercase())
}

fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    let file = File::open(path).map_err(io_error("read", path))?;
    Ok(BufReader::new(file))
}

fn read_wav(path: &Path) -> Result<Audio, DataError> {
    let broken = |error: hound::Error| DataError::malformed(path, wav_reason(&error));
    let mut reader = WavReader::new(open(path)?).map_err(broken)?;
    let spec = reader.spec();
    if spec.sample_rate == 0 || spec.channels == 0 {
        return Err(DataError::malformed(path, "says 0 channels or 0 samples a second"));
    }
    let values: Result<Vec<f32>, _> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            let scale = (1u64 << (spec.bits_per_sample - 1)) as f32;
            reader
                .samples::<i32>()
                .map(|sample| Ok(sample? as f32 / scale))
                .collect()
        }
    };
    Ok(Audio {
        samples: mono(&values.map_err(broken)?, usize::from(spec.channels)),
        sample_rate_hz: spec.sample_rate,
    })
}

fn wav_reason(error: &hound::Error) -> String {
    match error {
        hound::Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "is cut short".into()
        }
        hound::Error::IoError(error) => error.to_string(),
        hound::Error::Unsupported => "is a WAV file of a kind that is not supported".into(),
        error => format!("is no WAV file: {error}"),
    }
}

fn mono(interleaved: &[f32], channels: usize) -> Vec<f32> {
    let share = 1.0 / channels as f32;
    interleaved
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() * share)
        .collect()
}

fn read_other(path: &Path) -> Result<Audio, DataError> {
    use symphonia::core::errors::Error;
    let broken = |error: Error| DataError::malformed(path, format!("is no sound file: {error}"));
    let file = File::open(path).map_err(io_error("read", path))?;
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut hint = Hint::new();
    if let Some(ending) = ending(path) {
        hint.with_extension(&ending);
    }
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, Default::default(), Default::default())
        .map_err(broken)?;
    let none = || DataError::malformed(path, "has no sound in it");
    let track = format.default_track(TrackType::Audio).ok_or_else(none)?;
    let id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters.ok_or_else(none)?, &AudioDecoderOptions::default())
        .map_err(broken)?;
    let (mut samples, mut sample_rate_hz) = (Vec::new(), 0);
    let mut interleaved = Vec::new();
    while let Some(packet) = format.next_packet().map_err(broken)? {
        if packet.track_id != id {
            continue;
        }
        let decoded = decoder.decode(&packet).map_err(broken)?;
        interleaved.resize(decoded.samples_interleaved(), 0.0_f32);
        decoded.copy_to_slice_interleaved(&mut interleaved);
        sample_rate_hz = decoded.spec().rate();
        samples.extend(mono(&interleaved, decoded.spec().channels().count().max(1)));
    }
    if sample_rate_hz == 0 {
        return Err(none());
    }
    Ok(Audio {
        samples,
        sample_rate_hz,
    })
}

/// 16-bit samples of a WAV file.
fn pcm(samples: &[f32]) -> impl Iterator<Item = [u8; 2]> {
    samples.iter().map(|sample| {
        let level = (sample.clamp(-1.0, 1.0) * 32767.0).round();
        (level as i16).to_le_bytes()
    })
}

/// The header of 16-bit mono; `samples` is unknown while a stream is being written.
fn header(sample_rate_hz: u32, samples: Option<usize>) -> Vec<u8> {
    // The convention for streams whose end is not known yet.
    let bytes = samples.map_or(u32::MAX - 36, |count| {
        u32::try_from(2 * count).unwrap_or(u32::MAX - 36)
    });
    let mut header = Vec::with_capacity(44);
    header.extend(b"RIFF");
    header.extend((bytes + 36).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    header.extend(1u16.to_le_bytes()); // PCM
    header.extend(1u16.to_le_bytes()); // channels
    header.extend(sample_rate_hz.to_le_bytes());
    header.extend((2 * sample_rate_hz).to_le_bytes());
    header.extend(2u16.to_le_bytes()); // bytes a frame
    header.extend(16u16.to_le_bytes()); // bits a sample
    header.extend(b"data");
    header.extend(bytes.to_le_bytes());
    header
}

/// A whole 16-bit mono WAV file in memory.
pub fn wav_bytes(samples: &[f32], sample_rate_hz: u32) -> Vec<u8> {
    let mut bytes = header(sample_rate_hz, Some(samples.len()));
    bytes.extend(pcm(samples).flatten());
    bytes
}

/// Writes a 16-bit mono WAV file whole: temporary name, sync, rename.
///
/// # Errors
/// If it can't be written.
pub fn write_wav(path: &Path, samples: &[f32], sample_rate_hz: u32) -> Result<(), DataError> {
    crate::latents::write_whole(path, &wav_bytes(samples, sample_rate_hz))
}

/// A 16-bit mono WAV file that is written as its sound is made, to a pipe too: its header leaves the
/// length open, as players of streams expect.
#[derive(Debug)]
pub struct WavStream<W: Write> {
    writer: W,
}

impl<W: Write> WavStream<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn begin(mut writer: W, sample_rate_hz: u32) -> std::io::Result<Self> {
        writer.write_all(&header(sample_rate_hz, None))?;
        writer.flush()?;
        Ok(Self { writer })
    }

    /// Writes samples, to be heard at once.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, samples: &[f32]) -> std::io::Result<()> {
        let bytes: Vec<u8> = pcm(samples).flatten().collect();
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

/// Puts the length into the header of a [`WavStream`] that went to a file.
///
/// # Errors
/// If the file can't be written.
pub fn finish_wav_stream(file: &mut File, sample_rate_hz: u32) -> std::io::Result<()> {
    use std::io::{Seek, SeekFrom};
    let bytes = file.seek(SeekFrom::End(0))?;
    let samples = usize::try_from(bytes.saturating_sub(44) / 2).unwrap_or(usize::MAX);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header(sample_rate_hz, Some(samples)))?;
    file.sync_all()
}

/// Whether a file begins like a WAV file.
#[cfg(test)]
fn begins_like_wav(path: &Path) -> bool {
    let mut head = [0; 4];
    use std::io::Read;
    File::open(path).and_then(|mut f| f.read_exact(&mut head)).is_ok() && &head == b"RIFF"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency_hz: f32, rate: u32, count: usize) -> Vec<f32> {
        let turn = std::f32::consts::TAU * frequency_hz / rate as f32;
        (0..count).map(|i| 0.5 * (turn * i as f32).sin()).collect()
    }

    fn energy(samples: &[f32]) -> f32 {
        samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32
    }

    /// A tone below the new Nyquist frequency is the same tone; one above it is gone.
    #[test]
    fn resampling_keeps_what_fits_and_nothing_else() {
        for (from, to) in [(44_100, 16_000), (16_000, 24_000), (8_000, 16_000)] {
            let audio = Audio {
                samples: tone(1000.0, from, from as usize),
                sample_rate_hz: from,
            };
            let got = audio.resampled(to);
            assert_eq!(got.samples.len(), to as usize);
            let expected = tone(1000.0, to, to as usize);
            let middle = to as usize / 4..to as usize * 3 / 4;
            for (got, expected) in got.samples[middle.clone()].iter().zip(&expected[middle]) {
                assert!((got - expected).abs() < 2e-3, "{from} to {to}");
            }
        }
        let high = Audio {
            samples: tone(10_000.0, 44_100, 44_100),
            sample_rate_hz: 44_100,
        };
        let middle = &high.resampled(16_000).samples[4000..12_000];
        assert!(energy(middle) < 1e-6 * 0.125, "60 dB below the tone");
    }

    #[test]
    fn every_depth_and_channel_count_reads_alike() {
        let dir = tempfile::tempdir().unwrap();
        let sound = tone(440.0, 16_000, 800);
        let formats = [
            (8, SampleFormat::Int, 0.01),
            (16, SampleFormat::Int, 1e-4),
            (24, SampleFormat::Int, 1e-6),
            (32, SampleFormat::Int, 1e-6),
            (32, SampleFormat::Float, 1e-7),
        ];
        for (bits, format, bound) in formats {
            for channels in [1, 2] {
                let path = dir.path().join(format!("{bits}-{channels}.wav"));
                let spec = hound::WavSpec {
                    channels,
                    sample_rate: 16_000,
                    bits_per_sample: bits,
                    sample_format: format,
                };
                let mut writer = hound::WavWriter::create(&path, spec).unwrap();
                for sample in &sound {
                    for channel in 0..channels {
                        // Two channels that average to the sound.
                        let offset = if channels == 1 { 0.0 } else { 0.1 - 0.2 * f32::from(channel) };
                        let value = sample + offset;
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
                assert_eq!(audio.sample_rate_hz, 16_000);
                assert_eq!(audio.samples.len(), 800);
                for (got, expected) in audio.samples.iter().zip(&sound) {
                    assert!((got - expected).abs() < bound, "{bits} bits, {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn written_sound_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let sound = tone(440.0, 16_000, 801);
        let (whole, streamed) = (dir.path().join("a.wav"), dir.path().join("b.wav"));
        write_wav(&whole, &sound, 16_000).unwrap();
        let mut stream = WavStream::begin(File::create(&streamed).unwrap(), 16_000).unwrap();
        for part in sound.chunks(100) {
            stream.write(part).unwrap();
        }
        assert!(begins_like_wav(&streamed), "a stream can be played before it ends");
        finish_wav_stream(&mut stream.into_inner(), 16_000).unwrap();
        assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&streamed).unwrap());
        let read = read_audio(&whole).unwrap();
        for (got, expected) in read.samples.iter().zip(&sound) {
            assert!((got - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn what_is_no_sound_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let good = wav_bytes(&tone(440.0, 16_000, 800), 16_000);
        let mut loud = hound::WavWriter::create(
            dir.path().join("nan.wav"),
            hound::WavSpec {
                channels: 1,
                sample_rate: 16_000,
                bits_per_sample: 32,
                sample_format: SampleFormat::Float,
            },
        )
        .unwrap();
        loud.write_sample(f32::NAN).unwrap();
        loud.finalize().unwrap();
        for (name, bytes, part) in [
            ("empty.wav", &b""[..], "cut short"),
            ("text.wav", b"this is no sound at all, is it?", "no WAV file"),
            ("half.wav", &good[..400], "cut short"),
            ("silent.wav", &wav_bytes(&[], 16_000), "0 samples"),
            ("text.flac", b"neither is this", "no sound file"),
            ("nan.wav", &[], "no numbers"),
        ] {
            let path = dir.path().join(name);
            if !bytes.is_empty() || name == "empty.wav" {
                std::fs::write(&path, bytes).unwrap();
            }
            let message = read_audio(&path).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains(name), "{message}");
        }
    }
}
