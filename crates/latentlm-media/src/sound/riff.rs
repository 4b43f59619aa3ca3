//! Reads WAV headers as programs write them in practice: of streams written to a pipe, whose length is not
//! known yet, and of recordings too long for plain WAV (RF64, BW64, W64). All of them are turned into plain
//! WAV for the decoders.

use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};

/// Lengths that programs write while the real one is unknown: `sox` and `espeak-ng`; programs with signed
/// lengths; `arecord`; `ffmpeg`. Zero is another.
const OPEN_ENDS: [u64; 4] = [0x7fff_f000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
/// Some programs subtract or add the size of the header, at most this many bytes.
const HEADER_BYTES: u64 = 64;
/// Largest size of the format chunk in bytes: 16 to 40, plus what a codec adds.
const FORMAT_BYTES: u64 = 1 << 16;
/// Largest number of chunks before the samples. A damaged file may look like millions of empty ones.
const CHUNKS: usize = 10_000;
/// The rest of the GUIDs that identify a W64 file and its chunks, after the first four letters.
const W64_FILE: [u8; 12] = *b"\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";
const W64_CHUNK: [u8; 12] = *b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";

/// An error in a header.
#[derive(Debug)]
pub(crate) enum HeaderError {
    /// The file can't be read.
    Io(io::Error),
    /// The file ends before its samples begin.
    Cut,
    /// The header is invalid.
    Wrong(&'static str),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Io(error),
        }
    }
}

/// A plain WAV stream: a rewritten header, then the samples of the file.
pub(crate) type WavSamples = io::Chain<Cursor<Vec<u8>>, io::Take<BufReader<File>>>;

/// The content of a header.
#[derive(Debug)]
pub(crate) struct WavHeader {
    /// Bytes of the format chunk.
    format: Vec<u8>,
    /// Position of the first sample in the file, in bytes.
    start: u64,
    /// Bytes in the file from `start` on.
    behind: u64,
    /// Bytes of samples according to the header; `None` if the length is unknown.
    promised: Option<u64>,
}

/// The format of chunk headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `RIFF`, `RF64` and `BW64`. The first chunk of the last two holds 64-bit lengths.
    Riff,
    W64,
}

/// A chunk header: name, and length in bytes.
struct Chunk {
    name: [u8; 4],
    bytes: u64,
}

impl WavHeader {
    /// Reads the header of a file of `length` bytes; `None` if it is no WAV file.
    pub(crate) fn read(
        file: &mut BufReader<File>,
        length: u64,
    ) -> Result<Option<Self>, HeaderError> {
        let Some((kind, whole)) = begin(file)? else {
            return Ok(None);
        };
        let (mut format, mut long) = (None, None);
        for _ in 0..CHUNKS {
            let chunk = kind.chunk(file)?;
            match &chunk.name {
                b"fmt " if chunk.bytes > FORMAT_BYTES => {
                    return Err(HeaderError::Wrong("its format is too long"));
                }
                b"fmt " => {
                    let mut bytes = vec![0; chunk.bytes as usize];
                    file.read_exact(&mut bytes)?;
                    format = Some(bytes);
                    skip(file, kind.padding(chunk.bytes))?;
                }
                b"ds64" if kind == Kind::Riff && chunk.bytes >= 16 => {
                    let mut bytes = [0; 16];
                    file.read_exact(&mut bytes)?;
                    long = Some(number(&bytes[8..]));
                    skip(file, chunk.bytes - 16 + kind.padding(chunk.bytes))?;
                }
                b"data" => {
                    let format = format.ok_or(HeaderError::Wrong("missing fmt chunk"))?;
                    let start = file.stream_position()?;
                    let behind = length.saturating_sub(start);
                    let said = match long {
                        Some(long) if chunk.bytes == 0xffff_ffff => long,
                        _ => chunk.bytes,
                    };
                    // If the length is 0, bytes after it may be other chunks, unless the file's length does
                    // not cover them either.
                    let covered = whole > start && !open_end(whole);
                    let open = match said {
                        0 => behind > 0 && !covered,
                        said => behind < said && open_end(said),
                    };
                    return Ok(Some(Self {
                        format,
                        start,
                        behind,
                        promised: (!open).then_some(said),
                    }));
                }
                _ => skip(file, chunk.bytes.saturating_add(kind.padding(chunk.bytes)))?,
            }
        }
        Err(HeaderError::Wrong("it has too many chunks"))
    }

    /// Whether the file is truncated: has fewer bytes of samples than promised.
    pub(crate) fn is_cut(&self) -> bool {
        self.promised.is_some_and(|bytes| bytes > self.behind)
    }

    /// The file as a plain WAV stream.
    pub(crate) fn samples(self, mut file: BufReader<File>) -> Result<WavSamples, HeaderError> {
        let bytes = self.promised.unwrap_or_else(|| {
            // A stream of unknown length may end inside a frame.
            let frame = self.format.get(12..14).map_or(0, number).max(1);
            self.behind - self.behind % frame
        });
        let mut format = self.format;
        if format.len() % 2 == 1 {
            format.push(0);
        }
        let whole = bytes.saturating_add(format.len() as u64 + 20);
        let [whole, data] = [whole, bytes].map(u32::try_from);
        let (Ok(whole), Ok(data)) = (whole, data) else {
            return Err(HeaderError::Wrong("it holds more than 4 GiB"));
        };
        let mut header = b"RIFF".to_vec();
        header.extend(whole.to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend((format.len() as u32).to_le_bytes());
        header.extend(format);
        header.extend(b"data");
        header.extend(data.to_le_bytes());
        file.seek(SeekFrom::Start(self.start))?;
        Ok(Cursor::new(header).chain(file.take(bytes)))
    }
}

impl Kind {
    /// Reads the header of the next chunk.
    fn chunk(self, file: &mut impl Read) -> Result<Chunk, HeaderError> {
        let mut name = [0; 4];
        file.read_exact(&mut name)?;
        if self == Self::Riff {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes)?;
            let bytes = number(&bytes);
            return Ok(Chunk { name, bytes });
        }
        let (mut tail, mut bytes) = ([0; 12], [0; 8]);
        file.read_exact(&mut tail)?;
        file.read_exact(&mut bytes)?;
        // The length includes the chunk's header of 24 bytes.
        let bytes = number(&bytes).saturating_sub(24);
        if tail == W64_CHUNK {
            Ok(Chunk { name, bytes })
        } else {
            Ok(Chunk {
                name: *b"    ",
                bytes,
            })
        }
    }

    /// Padding in bytes after a chunk of `bytes` bytes.
    fn padding(self, bytes: u64) -> u64 {
        match self {
            Self::Riff => bytes % 2,
            Self::W64 => (8 - bytes % 8) % 8,
        }
    }
}

/// Reads the start of a file: the kind of WAV, and the whole length in bytes according to the header.
/// `None` if it is not WAV.
fn begin(file: &mut BufReader<File>) -> Result<Option<(Kind, u64)>, HeaderError> {
    let mut name = [0; 4];
    match file.read_exact(&mut name) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let kind = match &name {
        b"RIFF" | b"RF64" | b"BW64" => Kind::Riff,
        b"riff" => Kind::W64,
        _ => return Ok(None),
    };
    if kind == Kind::Riff {
        let (mut bytes, mut form) = ([0; 4], [0; 4]);
        file.read_exact(&mut bytes)?;
        file.read_exact(&mut form)?;
        let whole = number(&bytes).saturating_add(8);
        return Ok((form == *b"WAVE").then_some((kind, whole)));
    }
    let (mut tail, mut bytes, mut form) = ([0; 12], [0; 8], [0; 16]);
    file.read_exact(&mut tail)?;
    file.read_exact(&mut bytes)?;
    file.read_exact(&mut form)?;
    let wave = tail == W64_FILE && form[..4] == *b"wave" && form[4..] == W64_CHUNK;
    Ok(wave.then_some((kind, number(&bytes))))
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().take(8).rev();
    bytes.fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Whether a length is a placeholder for an unknown one.
fn open_end(bytes: u64) -> bool {
    let near = |end: &u64| end.abs_diff(bytes) <= HEADER_BYTES;
    OPEN_ENDS.iter().any(near) || bytes >= i64::MAX as u64 - HEADER_BYTES
}

fn skip(file: &mut BufReader<File>, bytes: u64) -> Result<(), HeaderError> {
    let bytes = i64::try_from(bytes).map_err(|_| HeaderError::Cut)?;
    Ok(file.seek_relative(bytes)?)
}
