//! Huffman decoding of JPEG scans: code tables and the bit reader.

/// Codes of at most this many bits are found by one table lookup.
const LOOKUP: u32 = 9;

/// Why a scan ended early.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    /// The data end.
    Cut,
    /// A code is not in its table.
    Damaged,
}

/// A Huffman table.
pub(super) struct Table {
    /// Length and symbol of the code that begins with these [`LOOKUP`] bits; length 0 for longer codes.
    short: Vec<(u8, u8)>,
    /// For each code length: the largest code (-1 if there is none), and the offset from a code to the
    /// index of its symbol.
    long: [(i32, i32); 17],
    values: Vec<u8>,
}

impl Table {
    pub(super) fn new(counts: &[u8], values: &[u8]) -> Option<Self> {
        let mut short = vec![(0, 0); 1 << LOOKUP];
        let mut long = [(-1, 0); 17];
        let (mut code, mut index) = (0_i32, 0_i32);
        for (length, &count) in (1_u32..).zip(counts) {
            let first = code;
            for _ in 0..count {
                if length <= LOOKUP {
                    let start = (code as usize) << (LOOKUP - length);
                    let symbol = *values.get(index as usize)?;
                    let covered = short.get_mut(start..start + (1 << (LOOKUP - length)))?;
                    covered.fill((length as u8, symbol));
                }
                code += 1;
                index += 1;
            }
            if count > 0 {
                long[length as usize] = (code - 1, index - i32::from(count) - first);
            }
            code <<= 1;
        }
        Some(Self {
            short,
            long,
            values: values.to_vec(),
        })
    }

    pub(super) fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, Stop> {
        let ahead = bits.ahead();
        let (length, symbol) = self.short[(ahead >> (16 - LOOKUP)) as usize];
        if length > 0 {
            bits.skip(u32::from(length))?;
            return Ok(symbol);
        }
        for length in LOOKUP + 1..=16 {
            let code = (ahead >> (16 - length)) as i32;
            let (largest, offset) = self.long[length as usize];
            if code <= largest {
                let symbol = self.values.get((code + offset) as usize);
                bits.skip(length)?;
                return symbol.copied().ok_or(Stop::Damaged);
            }
        }
        // Too few bits left for a whole code: the data are cut, not damaged.
        if bits.count < 16 {
            Err(Stop::Cut)
        } else {
            Err(Stop::Damaged)
        }
    }
}

/// The bits of a scan, up to the next marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Position of the next byte; at the end of a scan, that of the next marker.
    pub(super) at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            data,
            at,
            buffer: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.data.get(self.at) {
                Some(0xff) if self.data.get(self.at + 1) == Some(&0) => {
                    self.at += 1;
                    0xff
                }
                Some(0xff) | None => return,
                Some(&byte) => byte,
            };
            self.at += 1;
            self.buffer = (self.buffer << 8) | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next 16 bits, padded with zeros at the end of the data.
    fn ahead(&mut self) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        let bits = match self.count.checked_sub(16) {
            Some(more) => self.buffer >> more,
            None => self.buffer << (16 - self.count),
        };
        (bits & 0xffff) as u32
    }

    pub(super) fn skip(&mut self, count: u32) -> Result<(), Stop> {
        if self.count < count {
            self.fill();
        }
        self.count = self.count.checked_sub(count).ok_or(Stop::Cut)?;
        Ok(())
    }

    /// A number of at most 16 bits.
    pub(super) fn take(&mut self, count: u32) -> Result<u32, Stop> {
        let number = self.ahead() >> (16 - count);
        self.skip(count)?;
        Ok(number)
    }

    /// Skips to the data after the next marker, which must be a restart marker.
    pub(super) fn restart(&mut self) -> Result<(), Stop> {
        (self.buffer, self.count) = (0, 0);
        while let Some(ahead) = self.data.get(self.at..self.at + 2) {
            match ahead {
                [0xff, 0xd0..=0xd7] => {
                    self.at += 2;
                    return Ok(());
                }
                [0xff, 0] => self.at += 2,
                [0xff, 0xff] => self.at += 1,
                [0xff, _] => return Err(Stop::Cut),
                _ => self.at += 1,
            }
        }
        Err(Stop::Cut)
    }
}
