//! Reads sound files of all formats as mono.

use std::fs::File;
use std::io::{self, BufReader};
use std::ops::RangeInclusive;
use std::path::Path;

use hound::{SampleFormat, WavReader};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};

use super::audio::Audio;
use super::mixer::{Mixer, Sound, SoundLimits};
use super::riff::{HeaderError, WavHeader, WavSamples};
use crate::caught::caught;
use crate::error::{MediaError, io_error};
use crate::files::open_regular;

/// Extensions of sound files that can be read.
pub const ENDINGS: [&str; 11] = [
    "wav", "flac", "mp3", "ogg", "oga", "wave", "w64", "rf64", "aif", "aiff", "aifc",
];
/// Extensions of sound files that can't be read.
pub const OTHER_ENDINGS: [&str; 18] = [
    "opus", "m4a", "aac", "mp4", "wma", "amr", "ape", "caf", "webm", "mka", "mp2", "ac3", "au",
    "snd", "sph", "tta", "wv", "spx",
];
/// Accepted sample rates. A damaged header may claim up to 4 GHz, and the resampler would allocate
/// filters of gigabytes for it.
pub const RATES_HZ: RangeInclusive<u32> = 1_000..=768_000;
/// Number of interleaved samples that are mixed to one channel at once.
const MIXED_SAMPLES: usize = 1 << 16;

/// Reads a sound file within [`SoundLimits::default`]: WAV of any bit depth and number of channels (also
/// RF64 and W64), AIFF, FLAC, MP3 or OGG Vorbis. Channels are averaged. A WAV file with an unknown length,
/// written to a pipe, is read to its end.
///
/// # Errors
/// If the file can't be read, is not sound, is truncated, or has no samples, too many, or samples that
/// are not finite; or if its channels cancel each other out, so that nothing is left as one channel.
pub fn read_audio(path: &Path) -> Result<Audio, MediaError> {
    read_audio_within(path, SoundLimits::default())
}

/// Reads a sound file within the given limits.
///
/// # Errors
/// As [`read_audio`].
pub fn read_audio_within(path: &Path, limits: SoundLimits) -> Result<Audio, MediaError> {
    let sound = read_sound(path, limits)?;
    match sound.cancellation() {
        Some(reason) => Err(MediaError::malformed(path, reason)),
        None => Ok(sound.audio),
    }
}

/// Reads a sound file within the given limits and measures its loudest sample. Whether it is silent, or channels
/// cancel each other out, is for [`Sound::silence`].
///
/// # Errors
/// As [`read_audio`], but for channels that cancel each other out.
pub fn read_sound(path: &Path, limits: SoundLimits) -> Result<Sound, MediaError> {
    let sound = without_panic(path, || decode(path, limits))?;
    if sound.audio.samples.is_empty() {
        return Err(MediaError::malformed(path, "holds no sound: 0 samples"));
    }
    if !sound.audio.samples.iter().all(|sample| sample.is_finite()) {
        return Err(MediaError::malformed(
            path,
            "has samples that are no numbers",
        ));
    }
    Ok(sound)
}

/// Length of a sound file in seconds, from its header. Decodes the file only if the header lacks it.
///
/// # Errors
/// If the file can't be read or is no sound.
pub fn seconds(path: &Path, limits: SoundLimits) -> Result<f64, MediaError> {
    let header = without_panic(path, || by_header(path))?;
    match header {
        Some(seconds) => Ok(seconds),
        None => read_sound(path, limits).map(|sound| sound.audio.seconds()),
    }
}

/// Runs a decoder; a panic inside it becomes an error about the file.
fn without_panic<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, MediaError>,
) -> Result<T, MediaError> {
    caught("its decoder", work).unwrap_or_else(|failed| {
        let reason = format!("is damaged, or no sound: {failed}");
        Err(MediaError::malformed(path, reason))
    })
}

fn decode(path: &Path, limits: SoundLimits) -> Result<Sound, MediaError> {
    match open_wav(path)? {
        Some(header) => read_wav(path, header, limits),
        None => read_other(path, probe(path)?, limits),
    }
}

/// Length in seconds according to the header, if it has one.
fn by_header(path: &Path) -> Result<Option<f64>, MediaError> {
    let wav = open_wav(path)?;
    let format = match wav {
        Some(header) => {
            if let Ok(reader) = WavReader::new(plain_wav(path, header)?) {
                let rate = known_rate(path, reader.spec().sample_rate)?;
                return Ok(Some(f64::from(reader.duration()) / f64::from(rate)));
            }
            match open_wav(path)? {
                Some(header) => probe_wav(path, plain_wav(path, header)?)?,
                None => probe(path)?,
            }
        }
        None => probe(path)?,
    };
    let header = sound_of(path, &*format).ok().and_then(|track| {
        let rate = track.codec_params.as_ref()?.audio()?.sample_rate?;
        Some((track.num_frames?, rate))
    });
    match header {
        Some((frames, rate)) => Ok(Some(frames as f64 / f64::from(known_rate(path, rate)?))),
        None => Ok(None),
    }
}

/// The file name's extension in lower case.
pub fn ending(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_str()?;
    Some(ending.to_ascii_lowercase())
}

fn known_rate(path: &Path, rate: u32) -> Result<u32, MediaError> {
    if RATES_HZ.contains(&rate) {
        return Ok(rate);
    }
    let (least, most) = (RATES_HZ.start(), RATES_HZ.end());
    let reason = format!("says {rate} samples a second: {least} to {most} can be read");
    Err(MediaError::malformed(path, reason))
}

/// Opens a file and returns its length in bytes.
fn open(path: &Path) -> Result<(BufReader<File>, u64), MediaError> {
    let file = open_regular(path).map_err(io_error("read", path))?;
    let length = file.metadata().map_err(io_error("read", path))?.len();
    if length == 0 {
        return Err(MediaError::malformed(path, "is an empty file"));
    }
    Ok((BufReader::new(file), length))
}

fn wrong_header(path: &Path) -> impl Fn(HeaderError) -> MediaError {
    move |error| match error {
        HeaderError::Io(error) => io_error("read", path)(error),
        HeaderError::Cut => MediaError::malformed(path, "is cut short"),
        HeaderError::Wrong(why) => MediaError::malformed(path, format!("is no WAV file: {why}")),
    }
}

/// Reads the header of a WAV file; `None` if the content is not WAV, whatever the name.
fn open_wav(path: &Path) -> Result<Option<WavHeader>, MediaError> {
    let (mut file, length) = open(path)?;
    WavHeader::read(&mut file, length).map_err(wrong_header(path))
}

/// The WAV file with a plain header that has the right length.
fn plain_wav(path: &Path, header: WavHeader) -> Result<WavSamples, MediaError> {
    header.samples(open(path)?.0).map_err(wrong_header(path))
}

fn read_wav(path: &Path, header: WavHeader, limits: SoundLimits) -> Result<Sound, MediaError> {
    if header.is_cut() {
        return Err(MediaError::malformed(path, "is cut short"));
    }
    let broken = |error: hound::Error| MediaError::malformed(path, wav_reason(&error));
    let mut reader = match WavReader::new(plain_wav(path, header)?) {
        Ok(reader) => reader,
        Err(hound::Error::IoError(error)) => return Err(broken(hound::Error::IoError(error))),
        // Another coding, such as mu-law: Symphonia may read it.
        Err(error) => return read_wav_otherwise(path, limits, || broken(error)),
    };
    let spec = reader.spec();
    let rate = known_rate(path, spec.sample_rate)?;
    limits.check(path, reader.duration().into(), rate)?;
    let mixed = match (spec.sample_format, spec.bits_per_sample) {
        (SampleFormat::Float, _) => mix(path, reader.samples::<f32>(), &spec, limits),
        (SampleFormat::Int, bits @ 1..=32) => {
            let scale = (1u64 << (bits - 1)) as f32;
            let samples = reader.samples::<i32>();
            let samples =
                samples.map(|sample| -> hound::Result<f32> { Ok(sample? as f32 / scale) });
            mix(path, samples, &spec, limits)
        }
        // Hound does not check the bit depth of an extended header: it may be up to 65,535.
        (SampleFormat::Int, _) => Ok(Err(hound::Error::Unsupported)),
    }?;
    match mixed {
        Ok(sound) => Ok(sound),
        // Such as 12 bits stored in 16, or 64-bit numbers: Symphonia may read them.
        Err(error @ (hound::Error::Unsupported | hound::Error::TooWide)) => {
            read_wav_otherwise(path, limits, || broken(error))
        }
        Err(error) => Err(broken(error)),
    }
}

/// Mixes samples to mono block by block. The outer error is final; the inner one is hound's, after which
/// another reader may be tried.
fn mix(
    path: &Path,
    mut samples: impl Iterator<Item = hound::Result<f32>>,
    spec: &hound::WavSpec,
    limits: SoundLimits,
) -> Result<hound::Result<Sound>, MediaError> {
    let channels = usize::from(spec.channels);
    let block = channels * (MIXED_SAMPLES / channels).max(1);
    let mut mixer = Mixer::new(path, limits);
    mixer.sound.audio.sample_rate_hz = spec.sample_rate;
    loop {
        let frames: hound::Result<Vec<f32>> = samples.by_ref().take(block).collect();
        match frames {
            Err(error) => return Ok(Err(error)),
            Ok(frames) if frames.is_empty() => return Ok(Ok(mixer.sound)),
            Ok(frames) => mixer.add(&frames, channels, spec.sample_rate)?,
        }
    }
}

/// Reads a WAV file with Symphonia where hound does not support its coding. `broken` is the error if
/// Symphonia does not support it either.
fn read_wav_otherwise(
    path: &Path,
    limits: SoundLimits,
    broken: impl FnOnce() -> MediaError,
) -> Result<Sound, MediaError> {
    let format = match open_wav(path)? {
        Some(header) => probe_wav(path, plain_wav(path, header)?),
        None => probe(path),
    };
    match format {
        Ok(format) => read_other(path, format, limits),
        Err(_) => Err(broken()),
    }
}

fn wav_reason(error: &hound::Error) -> String {
    match error {
        // Hound reports the end of a file as an I/O error without an OS error number.
        hound::Error::IoError(error) if error.raw_os_error().is_none() => "is cut short".into(),
        hound::Error::IoError(error) => error.to_string(),
        hound::Error::Unsupported | hound::Error::TooWide => {
            "is a WAV file of a kind that is not supported".into()
        }
        error => format!("is no WAV file: {error}"),
    }
}

fn not_sound(path: &Path) -> impl Fn(Error) -> MediaError {
    move |error| {
        let reason = match error {
            Error::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "is cut short, or no sound file".into()
            }
            error => format!("is no sound file: {error}"),
        };
        MediaError::malformed(path, reason)
    }
}

fn probe(path: &Path) -> Result<Box<dyn FormatReader>, MediaError> {
    let file = open(path)?.0.into_inner();
    probe_source(path, Box::new(file), ending(path).as_deref())
}

fn probe_wav(path: &Path, samples: WavSamples) -> Result<Box<dyn FormatReader>, MediaError> {
    probe_source(path, Box::new(ReadOnlySource::new(samples)), Some("wav"))
}

fn probe_source(
    path: &Path,
    source: Box<dyn MediaSource>,
    ending: Option<&str>,
) -> Result<Box<dyn FormatReader>, MediaError> {
    let stream = MediaSourceStream::new(source, Default::default());
    let mut hint = Hint::new();
    if let Some(ending) = ending {
        hint.with_extension(ending);
    }
    symphonia::default::get_probe()
        .probe(&hint, stream, Default::default(), Default::default())
        .map_err(|error| match error {
            Error::Unsupported(_) if ending == Some("wav") => MediaError::malformed(
                path,
                "is no WAV file, and is no WAV, FLAC, MP3 or OGG file of another name",
            ),
            Error::Unsupported(_) => {
                MediaError::malformed(path, "is no WAV, FLAC, MP3 or OGG file, and no AIFF")
            }
            error => not_sound(path)(error),
        })
}

fn sound_of<'a>(path: &Path, format: &'a dyn FormatReader) -> Result<&'a Track, MediaError> {
    let track = format.default_track(TrackType::Audio);
    track.ok_or_else(|| MediaError::malformed(path, "has no sound in it"))
}

/// Number of frames according to the header. `None` for an MP3 without an encoder's tag, where the number
/// is only an estimate.
fn promised(path: &Path, track: &Track) -> Option<u64> {
    let exact = ending(path).as_deref() != Some("mp3") || track.delay.is_some();
    track.num_frames.filter(|_| exact)
}

fn read_other(
    path: &Path,
    mut format: Box<dyn FormatReader>,
    limits: SoundLimits,
) -> Result<Sound, MediaError> {
    let broken = not_sound(path);
    let track = sound_of(path, &*format)?;
    let (id, promised) = (track.id, promised(path, track));
    let parameters = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let parameters = parameters
        .ok_or_else(|| MediaError::malformed(path, "is of a codec that is not supported"))?;
    if let (Some(frames), Some(rate)) = (promised, parameters.sample_rate) {
        limits.check(path, frames, known_rate(path, rate)?)?;
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|_| MediaError::malformed(path, "is of a codec that is not supported"))?;
    let (mut mixer, mut interleaved) = (Mixer::new(path, limits), Vec::new());
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // The end of a file of unknown length, or of a truncated one, which is detected below.
            Err(Error::IoError(e)) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(broken(error)),
        };
        if packet.track_id != id {
            continue;
        }
        let decoded = decoder.decode(&packet).map_err(&broken)?;
        interleaved.resize(decoded.samples_interleaved(), 0.0_f32);
        decoded.copy_to_slice_interleaved(&mut interleaved);
        let rate = known_rate(path, decoded.spec().rate())?;
        let channels = decoded.spec().channels().count().max(1);
        mixer.add(&interleaved, channels, rate)?;
    }
    let samples = mixer.sound.audio.samples.len() as u64;
    if promised.is_some_and(|frames| samples < frames) {
        return Err(MediaError::malformed(path, "is cut short"));
    }
    Ok(mixer.sound)
}
