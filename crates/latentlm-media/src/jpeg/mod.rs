//! Checks that a JPEG file holds every row that its header promises.
//!
//! Decoders are lenient: they fill the missing rows of a truncated file with grey. This module parses the
//! compressed data as a decoder does (ITU T.81, annexes F and G), but skips over the values: only their
//! lengths matter here.

mod codes;

use codes::{Bits, Stop, Table};

/// The first bytes of every JPEG file.
const START: [u8; 3] = [0xff, 0xd8, 0xff];
/// Value of [`Component::low`] for coefficients that no scan has sent yet.
const NEVER: u8 = 255;

/// Whether these bytes are a JPEG file.
pub(crate) fn is_jpeg(data: &[u8]) -> bool {
    data.starts_with(&START)
}

/// Describes in one line what a truncated or damaged file lacks; `None` if it is complete. A missing end
/// marker, or bytes after it, are accepted. So are files in coding modes that are not supported here.
pub(crate) fn missing(data: &[u8]) -> Option<String> {
    let mut file = File::default();
    file.read(data).err().flatten()
}

/// Why parsing ended early: with a description of what is missing, or `None` if the file can't be judged.
type Ended = Option<String>;

/// Parser state: the content of the segments read so far.
#[derive(Default)]
struct File {
    frame: Option<Frame>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// Units (MCUs) between restart markers; 0 if there are none.
    restart: usize,
    /// Number of scans begun so far.
    passes: usize,
}

struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    /// Largest horizontal and vertical sampling factors of all components.
    h: usize,
    v: usize,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    h: usize,
    v: usize,
    /// Blocks per row, rounded up to whole units.
    stride: usize,
    /// For each block a bit mask of its nonzero coefficients. Only progressive files need it; empty for
    /// others.
    set: Vec<u64>,
    /// For each coefficient the number of low bits that later scans will send.
    low: [u8; 64],
}

/// A component in a scan, with its Huffman tables.
#[derive(Clone, Copy)]
struct ScanPart {
    /// Index of the component in its frame.
    component: usize,
    /// Index of the table for DC coefficients.
    dc: usize,
    /// Index of the table for AC coefficients.
    ac: usize,
}

/// The header of a scan: one pass over the picture.
struct Scan {
    parts: Vec<ScanPart>,
    /// First coefficient.
    start: usize,
    /// Last coefficient.
    end: usize,
    /// Whether the scan sends one more bit of coefficients that earlier scans began.
    refines: bool,
}

impl File {
    fn read(&mut self, data: &[u8]) -> Result<(), Ended> {
        let mut at = 2;
        loop {
            let Some((marker, behind)) = next_marker(data, at) else {
                return self.ended(false);
            };
            at = behind;
            match marker {
                0xd9 => return self.ended(true),
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let length = match data.get(at..at + 2) {
                Some(bytes) => usize::from(u16::from_be_bytes([bytes[0], bytes[1]])),
                None => return self.ended(false),
            };
            let Some(segment) = data.get(at + 2..at + length.max(2)) else {
                return self.ended(false);
            };
            at += length.max(2);
            match marker {
                0xc0..=0xc2 => self.begin(segment, marker == 0xc2).ok_or(Ended::None)?,
                // Lossless, arithmetic and hierarchical coding.
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Err(None),
                0xc4 => self.tables(segment).ok_or(Ended::None)?,
                0xdd => self.restart = word(segment, 0).ok_or(Ended::None)?,
                0xda => {
                    let scan = self.scan(segment).ok_or(Ended::None)?;
                    let mut bits = Bits::new(data, at);
                    self.passes += 1;
                    self.pass(&scan, &mut bits)?;
                    at = bits.at;
                }
                _ => {}
            }
        }
    }

    /// Checks completeness at the end of the file. `marked` tells whether the end marker was found.
    fn ended(&self, marked: bool) -> Result<(), Ended> {
        let Some(frame) = self.frame.as_ref().filter(|_| self.passes > 0) else {
            return Err(None);
        };
        if frame.components.iter().any(|part| part.low[0] == NEVER) {
            return Err(Some("is cut: a colour channel is missing".into()));
        }
        let coarse = |part: &Component| part.low.iter().any(|&low| low != 0);
        if frame.progressive && !marked && frame.components.iter().any(coarse) {
            let passes = self.passes;
            let reason = format!("is cut: it ends after pass {passes}, before its last");
            return Err(Some(reason));
        }
        Ok(())
    }

    /// The frame's header.
    fn begin(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let (height, width) = (word(segment, 1)?, word(segment, 3)?);
        let parts = segment.get(6..6 + 3 * usize::from(*segment.get(5)?))?;
        let parts = parts.chunks_exact(3);
        let factors = |part: &[u8]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let h = parts.clone().map(|part| factors(part).0).max()?;
        let v = parts.clone().map(|part| factors(part).1).max()?;
        let valid = |part: &[u8]| matches!(factors(part), (1..=4, 1..=4));
        if self.frame.is_some() || height == 0 || width == 0 || !parts.clone().all(valid) {
            return None;
        }
        let (across, down) = (width.div_ceil(8 * h), height.div_ceil(8 * v));
        let component = |part: &[u8]| {
            let (own_h, own_v) = factors(part);
            let stride = across * own_h;
            let blocks = if progressive {
                stride * down * own_v
            } else {
                0
            };
            Component {
                id: part[0],
                h: own_h,
                v: own_v,
                stride,
                set: vec![0; blocks],
                low: [NEVER; 64],
            }
        };
        self.frame = Some(Frame {
            width,
            height,
            progressive,
            h,
            v,
            components: parts.map(component).collect(),
        });
        Some(())
    }

    fn tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let counts = rest.get(..16)?;
            let total = counts
                .iter()
                .map(|&count| usize::from(count))
                .sum::<usize>();
            let values = rest.get(16..16 + total)?;
            let tables = match kind >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(kind & 15))? = Some(Table::new(counts, values)?);
            segment = &rest[16 + total..];
        }
        Some(())
    }

    /// A scan's header.
    fn scan(&mut self, segment: &[u8]) -> Option<Scan> {
        let frame = self.frame.as_mut()?;
        let count = usize::from(*segment.first()?);
        let mut parts = Vec::new();
        for part in segment.get(1..1 + 2 * count)?.chunks_exact(2) {
            let index = frame.components.iter().position(|own| own.id == part[0])?;
            parts.push(ScanPart {
                component: index,
                dc: usize::from(part[1] >> 4),
                ac: usize::from(part[1] & 15),
            });
        }
        let [start, end, bits] = *segment.get(1 + 2 * count..4 + 2 * count)? else {
            return None;
        };
        let (start, end, low) = if frame.progressive {
            (usize::from(start), usize::from(end), bits & 15)
        } else {
            (0, 63, 0)
        };
        let single = parts.len() == 1;
        let refines = frame.progressive && (bits >> 4) > 0;
        let has_tables = |part: &ScanPart| {
            let has_dc = table(&self.dc, part.dc).is_ok();
            let has_ac = table(&self.ac, part.ac).is_ok();
            if !frame.progressive {
                has_dc && has_ac
            } else if start == 0 {
                has_dc || refines
            } else {
                has_ac
            }
        };
        // A file may omit the standard tables, which decoders know. It can't be judged here.
        if !parts.iter().all(has_tables) {
            return None;
        }
        if parts.is_empty() || start > end || end > 63 || (start > 0 && !single) {
            return None;
        }
        for part in &parts {
            frame.components[part.component].low[start..=end].fill(low);
        }
        Some(Scan {
            parts,
            start,
            end,
            refines,
        })
    }

    /// Reads the data of a scan.
    fn pass(&mut self, scan: &Scan, bits: &mut Bits<'_>) -> Result<(), Ended> {
        let Some(frame) = self.frame.as_mut() else {
            return Err(None);
        };
        // Height of a unit in pixels, units per row, rows of units.
        let (tall, across, down) = match scan.parts[..] {
            [part] => {
                let own = &frame.components[part.component];
                let size = |side: usize, own: usize, all: usize| (side * own).div_ceil(8 * all);
                let across = size(frame.width, own.h, frame.h);
                (
                    8 * frame.v / own.v,
                    across,
                    size(frame.height, own.v, frame.v),
                )
            }
            _ => {
                let (wide, tall) = (8 * frame.h, 8 * frame.v);
                (
                    tall,
                    frame.width.div_ceil(wide),
                    frame.height.div_ceil(tall),
                )
            }
        };
        let mut coder = Coder {
            dc: &self.dc,
            ac: &self.ac,
            scan,
            progressive: frame.progressive,
            run: 0,
        };
        for unit in 0..across * down {
            let (x, y) = (unit % across, unit / across);
            let restarts = self.restart > 0 && unit > 0 && unit % self.restart == 0;
            let read = if restarts {
                bits.restart().map(|()| coder.run = 0)
            } else {
                Ok(())
            };
            let read = read.and_then(|()| coder.unit(&mut frame.components, x, y, bits));
            if let Err(stop) = read {
                let rows = (y * tall).min(frame.height);
                let pass = if frame.progressive {
                    format!(" of pass {}", self.passes)
                } else {
                    String::new()
                };
                let what = match stop {
                    Stop::Cut => "is cut: it holds",
                    Stop::Damaged => "is damaged: it can be read for",
                };
                return Err(Some(format!(
                    "{what} {rows} of {} rows{pass}",
                    frame.height
                )));
            }
        }
        Ok(())
    }
}

/// A big-endian number of two bytes.
fn word(segment: &[u8], at: usize) -> Option<usize> {
    let bytes = segment.get(at..at + 2)?;
    Some((usize::from(bytes[0]) << 8) | usize::from(bytes[1]))
}

/// The next marker that is not a restart marker, and the position after it.
fn next_marker(data: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += data.get(at..)?.iter().position(|&byte| byte == 0xff)? + 1;
        match *data.get(at)? {
            0 | 0xd0..=0xd7 => at += 1,
            // A fill byte before a marker.
            0xff => {}
            marker => return Some((marker, at + 1)),
        }
    }
}

/// The table with this index.
fn table(tables: &[Option<Table>; 4], index: usize) -> Result<&Table, Stop> {
    tables
        .get(index)
        .and_then(Option::as_ref)
        .ok_or(Stop::Damaged)
}

/// Reads the blocks of a scan.
struct Coder<'a> {
    dc: &'a [Option<Table>; 4],
    ac: &'a [Option<Table>; 4],
    scan: &'a Scan,
    progressive: bool,
    /// Number of following blocks in which this scan sends no new coefficients.
    run: u32,
}

impl Coder<'_> {
    /// Reads the unit at `(x, y)`: one block if the scan has a single component, otherwise as many blocks
    /// of each component as its sampling factors say.
    fn unit(
        &mut self,
        components: &mut [Component],
        x: usize,
        y: usize,
        bits: &mut Bits<'_>,
    ) -> Result<(), Stop> {
        let scan = self.scan;
        if let [part] = scan.parts[..] {
            let own = &mut components[part.component];
            let at = y * own.stride + x;
            return self.block(own.set.get_mut(at), part, bits);
        }
        for &part in &scan.parts {
            let own = &mut components[part.component];
            for row in y * own.v..(y + 1) * own.v {
                for column in x * own.h..(x + 1) * own.h {
                    let at = row * own.stride + column;
                    self.block(own.set.get_mut(at), part, bits)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a block. `set` is the mask of its nonzero coefficients, if that is tracked.
    fn block(
        &mut self,
        set: Option<&mut u64>,
        part: ScanPart,
        bits: &mut Bits<'_>,
    ) -> Result<(), Stop> {
        let mut ignored = 0;
        let set = set.unwrap_or(&mut ignored);
        let (dc, ac) = (table(self.dc, part.dc), table(self.ac, part.ac));
        if !self.progressive {
            let size = dc?.symbol(bits)?;
            bits.skip(u32::from(size))?;
            return sequential(ac?, bits);
        }
        if self.scan.start == 0 {
            if self.scan.refines {
                return bits.skip(1);
            }
            let size = dc?.symbol(bits)?;
            return bits.skip(u32::from(size));
        }
        if self.scan.refines {
            self.refine(ac?, set, bits)
        } else {
            self.first(ac?, set, bits)
        }
    }

    /// Reads the high bits of a band of AC coefficients (first scan of the band).
    fn first(&mut self, ac: &Table, set: &mut u64, bits: &mut Bits<'_>) -> Result<(), Stop> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let mut at = self.scan.start;
        while at <= self.scan.end {
            let symbol = ac.symbol(bits)?;
            let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
            match (zeros, size) {
                (15, 0) => at += 16,
                (_, 0) => {
                    self.run = (1_u32 << zeros) - 1 + bits.take(u32::from(zeros))?;
                    break;
                }
                _ => {
                    at += usize::from(zeros);
                    if at > 63 {
                        return Err(Stop::Damaged);
                    }
                    *set |= 1 << at;
                    bits.skip(size)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Reads one more bit of a band of AC coefficients: a correction bit for each nonzero coefficient, and
    /// coefficients that become nonzero.
    fn refine(&mut self, ac: &Table, set: &mut u64, bits: &mut Bits<'_>) -> Result<(), Stop> {
        let (mut at, end) = (self.scan.start, self.scan.end);
        while self.run == 0 && at <= end {
            let symbol = ac.symbol(bits)?;
            let (mut zeros, new) = (symbol >> 4, (symbol & 15) > 0);
            if new {
                bits.skip(1)?;
            } else if zeros < 15 {
                self.run = (1_u32 << zeros) + bits.take(u32::from(zeros))?;
                break;
            }
            while at <= end {
                if (*set >> at) & 1 == 1 {
                    bits.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            if new && at <= end {
                *set |= 1 << at;
            }
            at += 1;
        }
        if self.run > 0 {
            for coefficient in at..=end {
                bits.skip(((*set >> coefficient) & 1) as u32)?;
            }
            self.run -= 1;
        }
        Ok(())
    }
}

/// Reads the AC coefficients of a block in a sequential file.
fn sequential(ac: &Table, bits: &mut Bits<'_>) -> Result<(), Stop> {
    let mut at = 1;
    while at < 64 {
        let symbol = ac.symbol(bits)?;
        match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
            (15, 0) => at += 16,
            (_, 0) => break,
            (zeros, size) => {
                at += zeros + 1;
                if at > 64 {
                    return Err(Stop::Damaged);
                }
                bits.skip(size)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use latentlm_core::RandomStream;

    /// A picture of noise: every row of it takes codes.
    fn noise(width: u32, height: u32, channels: u32) -> Vec<u8> {
        let mut random = RandomStream::for_step(1, "jpeg", u64::from(width));
        let mut byte = || random.below(256) as u8;
        let mut file = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut file, 80);
        match channels {
            1 => image::GrayImage::from_fn(width, height, |_, _| image::Luma([byte()]))
                .write_with_encoder(encoder),
            _ => {
                image::RgbImage::from_fn(width, height, |_, _| image::Rgb([byte(), byte(), byte()]))
                    .write_with_encoder(encoder)
            }
        }
        .unwrap();
        file
    }

    /// Where the scan of a file begins.
    fn scan(file: &[u8]) -> usize {
        let at = file.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
        at + 2 + usize::from(file[at + 3])
    }

    #[test]
    fn whole_files_lack_nothing_with_or_without_an_end() {
        for (width, height, channels) in [(64, 64, 1), (50, 37, 3), (8, 8, 3), (1, 1, 1)] {
            let file = noise(width, height, channels);
            assert!(is_jpeg(&file));
            assert_eq!(missing(&file), None, "{width}x{height}");
            assert!(file.ends_with(&[0xff, 0xd9]));
            assert_eq!(missing(&file[..file.len() - 2]), None, "no end mark");
            let more = [&file[..], b"more\xff\xda\0\x02\xff"].concat();
            assert_eq!(missing(&more), None, "bytes behind the end");
        }
    }

    #[test]
    fn rows_that_are_missing_are_counted() {
        let file = noise(64, 64, 3);
        let start = scan(&file);
        for part in 0..20 {
            let end = start + (file.len() - 2 - start) * part / 20;
            let reason = missing(&file[..end]).unwrap();
            let rows = reason.strip_prefix("is cut: it holds ").unwrap();
            let rows: usize = rows.split(' ').next().unwrap().parse().unwrap();
            // Noise takes about as many codes in every row of units.
            let expected = 64 * part / 20;
            assert!(rows.abs_diff(expected) <= 12, "{part}: {reason}");
            // An end marker after the cut does not hide it.
            let marked = [&file[..end], &[0xff, 0xd9]].concat();
            assert_eq!(missing(&marked).as_ref(), Some(&reason));
        }
    }

    #[test]
    fn every_cut_of_the_data_is_seen() {
        let file = noise(32, 24, 1);
        for end in scan(&file)..file.len() - 3 {
            assert!(missing(&file[..end]).is_some(), "{end} of {}", file.len());
        }
    }

    #[test]
    fn damage_does_not_panic() {
        let file = noise(24, 24, 3);
        for at in 0..file.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = file.clone();
                bytes[at] ^= change;
                // Any result is fine, as long as the call returns.
                let _ = (missing(&bytes), missing(&bytes[..at]));
            }
        }
    }

    /// A progressive file made by hand: grey, 16 x 16 pixels, four blocks, three scans.
    fn passes(last: &[u8]) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        file.extend([0xff, 0xc2, 0, 11, 8, 0, 16, 0, 16, 1, 1, 0x11, 0]);
        // DC table: `0` is a difference of 0, `10` a number of two bits.
        file.extend([0xff, 0xc4, 0, 21, 0x00, 1, 1]);
        file.extend([0; 14]);
        file.extend([0, 2]);
        // AC table: `0` is a coefficient of one bit, `10` the end of the block.
        file.extend([0xff, 0xc4, 0, 21, 0x10, 1, 1]);
        file.extend([0; 14]);
        file.extend([0x01, 0x00]);
        // First scan, all DC coefficients: 10 11, 0, 0, 0.
        file.extend([0xff, 0xda, 0, 8, 1, 1, 0x00, 0, 0, 0, 0b1011_0001]);
        // Second scan, high bits of the AC coefficients: 0 1 10, 10, 10, 10; one coefficient in the first block.
        file.extend([0xff, 0xda, 0, 8, 1, 1, 0x00, 1, 63, 0x01, 0b0110_1010]);
        file.push(0b1011_1111);
        // Third scan, low bits of the AC coefficients: 10 and one bit of that coefficient, 10, 10, 10: nine bits.
        file.extend([0xff, 0xda, 0, 8, 1, 1, 0x00, 1, 63, 0x10]);
        file.extend(last);
        file
    }

    #[test]
    fn files_of_several_passes_are_read_pass_by_pass() {
        let whole = passes(&[0b1011_0101, 0b0111_1111, 0xff, 0xd9]);
        assert_eq!(missing(&whole), None);
        assert_eq!(missing(&passes(&[0b1011_0101, 0b0111_1111])), None);
        let cut = missing(&passes(&[0b1011_0101])).unwrap();
        assert_eq!(cut, "is cut: it holds 8 of 16 rows of pass 3");
        let header = [0xff, 0xda, 0, 8, 1, 1, 0x00, 1, 63, 0x10];
        let third = whole.windows(10).position(|ten| ten == header).unwrap();
        let reason = "is cut: it ends after pass 2, before its last";
        assert_eq!(missing(&whole[..third]).as_deref(), Some(reason));
        let marked = [&whole[..third], &[0xff, 0xd9]].concat();
        assert_eq!(missing(&marked), None, "some files have no more passes");
    }
}
