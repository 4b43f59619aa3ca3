//! Numbers of a GGUF file: float32, halves of it, and blocks of small whole numbers with scales. Layouts of blocks:
//! docs/gguf.md. Values are bit for bit those of PyPI's `gguf`.

use burn::tensor::{DType, bf16, f16};
use latentlm_kernels::{WEIGHT_GROUP, WeightBits};

/// Bytes of a scale.
const SCALE_BYTES: usize = 2;
/// Largest scale that float16 has.
const MOST: f32 = 65_504.0;
/// Numbers that are unpacked at a time: a multiple of every block.
const PIECE: usize = 256;
/// The types that can be read, for messages.
const READ: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K and Q6_K are";

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    F32,
    F16,
    Bf16,
    /// 32 numbers of 8 bits with a scale.
    Q8,
    /// 32 numbers of 4 bits with a scale.
    Q4,
    /// 256 numbers of 4 bits; each 32 have a scale and a minimum.
    Q4K,
    /// 256 numbers of 5 bits; each 32 have a scale and a minimum.
    Q5K,
    /// 256 numbers of 6 bits; each 16 have a scale.
    Q6K,
}

impl Packing {
    /// By its number in a file.
    ///
    /// # Errors
    /// If it can't be read, with its name.
    pub(super) fn of(code: u32) -> Result<Self, String> {
        Ok(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4,
            8 => Self::Q8,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            other => {
                let name = name_of(other).map_or_else(|| format!("type {other}"), str::to_owned);
                return Err(format!("{name}, which can't be read; {READ}"));
            }
        })
    }

    /// Numbers of a block.
    pub(super) fn block_numbers(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8 | Self::Q4 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8 => 34,
            Self::Q4 => 18,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Type of the numbers, or of the bytes of blocks.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
            Self::Q8 | Self::Q4 | Self::Q4K | Self::Q5K | Self::Q6K => DType::U8,
        }
    }

    /// Whether the scales of whole blocks are finite. Then their numbers are too: they are far from the largest float32.
    pub(super) fn has_finite_scales(self, bytes: &[u8]) -> bool {
        let places: &[usize] = match self {
            Self::F32 | Self::F16 | Self::Bf16 => return true,
            Self::Q8 | Self::Q4 => &[0],
            Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q6K => &[208],
        };
        let mut blocks = bytes.chunks_exact(self.block_bytes());
        blocks.all(|block| places.iter().all(|place| f16_at(block, *place).is_finite()))
    }

    /// Numbers of whole blocks.
    fn count(self, bytes: &[u8]) -> usize {
        bytes.len() / self.block_bytes() * self.block_numbers()
    }

    /// The numbers of whole blocks.
    pub(super) fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        let mut numbers = vec![0.0; self.count(bytes)];
        self.unpack(bytes, &mut numbers);
        numbers
    }

    /// The numbers of whole blocks, rounded to bfloat16. They are never all in memory as float32.
    pub(super) fn rounded(self, bytes: &[u8]) -> Vec<bf16> {
        let mut rounded = Vec::with_capacity(self.count(bytes));
        let mut numbers = [0.0; PIECE];
        let piece_bytes = PIECE / self.block_numbers() * self.block_bytes();
        for piece in bytes.chunks(piece_bytes) {
            let some = &mut numbers[..self.count(piece)];
            self.unpack(piece, some);
            rounded.extend(some.iter().map(|number| bf16::from_f32(*number)));
        }
        rounded
    }

    /// Writes the numbers of whole blocks into `out`, which has room for exactly these.
    fn unpack(self, bytes: &[u8], out: &mut [f32]) {
        let unpack_block = match self {
            Self::F32 => f32_number,
            Self::F16 => f16_number,
            Self::Bf16 => bf16_number,
            Self::Q8 => q8_0,
            Self::Q4 => q4_0,
            Self::Q4K => q4_k,
            Self::Q5K => q5_k,
            Self::Q6K => q6_k,
        };
        let blocks = bytes.chunks_exact(self.block_bytes());
        for (out, block) in out.chunks_exact_mut(self.block_numbers()).zip(blocks) {
            unpack_block(block, out);
        }
    }
}

/// Numbers of 8 or 4 bits as they are multiplied, each [`WEIGHT_GROUP`] with a scale. Of 8 bits a byte is a number. Of 4 bits 16
/// bytes are a group: low halves are its first 16 numbers, high halves the others, and 8 stands for zero.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) numbers: Vec<u8>,
    /// A float16 number for each group.
    pub(super) scales: Vec<u8>,
}

impl Packing {
    /// Bits that a matrix of such blocks has in memory; `None` if it is no matrix of blocks. 4-bit blocks with minima
    /// become 8 bits: 4 bits with scales alone would be much farther off.
    pub(super) fn group_bits(self) -> Option<WeightBits> {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => None,
            Self::Q4 => Some(WeightBits::Four),
            Self::Q8 | Self::Q4K | Self::Q5K | Self::Q6K => Some(WeightBits::Eight),
        }
    }

    /// The groups of whole blocks: those of Q8_0 and Q4_0 as they are, the nearest ones of other blocks.
    pub(super) fn groups(self, bytes: &[u8]) -> Groups {
        let mut groups = Groups::default();
        for block in bytes.chunks_exact(self.block_bytes()) {
            if matches!(self, Self::Q8 | Self::Q4) {
                groups.scales.extend_from_slice(&block[..SCALE_BYTES]);
                groups.numbers.extend_from_slice(&block[SCALE_BYTES..]);
                continue;
            }
            let mut numbers = [0.0; PIECE];
            self.unpack(block, &mut numbers[..self.block_numbers()]);
            for group in numbers[..self.block_numbers()].chunks_exact(WEIGHT_GROUP) {
                groups.push_nearest(group);
            }
        }
        groups
    }
}

impl Groups {
    /// Adds a group of the nearest numbers of 8 bits. They are off by half a step, 1/254 of the largest of the group, and
    /// a little more where float16 rounds the scale.
    fn push_nearest(&mut self, group: &[f32]) {
        let largest = group.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        let scale = f16::from_f32((largest / 127.0).min(MOST));
        self.scales.extend(scale.to_le_bytes());
        let scale = scale.to_f32();
        for number in group {
            let level = if scale > 0.0 { number / scale } else { 0.0 };
            // A number that is none becomes zero.
            let level = level.round_ties_even().clamp(-127.0, 127.0) as i8;
            self.numbers.push(level.cast_unsigned());
        }
    }
}

/// The name of a type that can't be read.
fn name_of(code: u32) -> Option<&'static str> {
    Some(match code {
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return None,
    })
}

fn f32_number(block: &[u8], out: &mut [f32]) {
    out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

fn f16_number(block: &[u8], out: &mut [f32]) {
    out[0] = f16_at(block, 0);
}

fn bf16_number(block: &[u8], out: &mut [f32]) {
    out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
}

fn f16_at(block: &[u8], place: usize) -> f32 {
    f16::from_le_bytes([block[place], block[place + 1]]).to_f32()
}

/// 34 bytes: scale, 32 numbers of 8 bits.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = f16_at(block, 0);
    for (out, &byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(byte.cast_signed()) * scale;
    }
}

/// 18 bytes: scale, 16 bytes. Their low halves are the first 16 numbers, their high halves the others; 8 stands for
/// zero.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = f16_at(block, 0);
    for (index, &byte) in block[2..].iter().enumerate() {
        out[index] = scale * (f32::from(byte & 15) - 8.0);
        out[index + 16] = scale * (f32::from(byte >> 4) - 8.0);
    }
}

/// Scale and minimum of 32 numbers, 6 bits each, of eight such pairs in 12 bytes. The first four of both lie in the
/// low bits of bytes 0 to 7; the others have 4 bits in bytes 8 to 11 and their 2 high bits on top of the first.
fn scale_and_minimum(bytes: &[u8], index: usize) -> (f32, f32) {
    let (scale, minimum) = if index < 4 {
        (bytes[index] & 63, bytes[index + 4] & 63)
    } else {
        let low = bytes[index + 4];
        let scale = (low & 15) | ((bytes[index - 4] >> 2) & 48);
        let minimum = (low >> 4) | ((bytes[index] >> 2) & 48);
        (scale, minimum)
    };
    (f32::from(scale), f32::from(minimum))
}

/// 144 bytes: scale of the scales, scale of the minima, 12 bytes of both, 128 bytes of numbers. Of 32 bytes the low
/// halves are 32 numbers, the high halves the next 32.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
    let numbers = &block[16..];
    for (index, out) in out.chunks_exact_mut(32).enumerate() {
        let (own_scale, own_minimum) = scale_and_minimum(&block[4..16], index);
        let (step, least) = (scale * own_scale, minimum * own_minimum);
        let shift = index % 2 * 4;
        for (out, &byte) in out.iter_mut().zip(&numbers[index / 2 * 32..]) {
            *out = step * f32::from((byte >> shift) & 15) - least;
        }
    }
}

/// 176 bytes: as [`q4_k`], with 32 bytes in front of the numbers. Their bit `i` is the fifth bit of the `i`-th 32
/// numbers.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
    let (high_bits, numbers) = block[16..].split_at(32);
    for (index, out) in out.chunks_exact_mut(32).enumerate() {
        let (own_scale, own_minimum) = scale_and_minimum(&block[4..16], index);
        let (step, least) = (scale * own_scale, minimum * own_minimum);
        let shift = index % 2 * 4;
        let bytes = numbers[index / 2 * 32..].iter().zip(high_bits);
        for (out, (&byte, &high)) in out.iter_mut().zip(bytes) {
            let number = ((byte >> shift) & 15) | (((high >> index) & 1) << 4);
            *out = step * f32::from(number) - least;
        }
    }
}

/// 210 bytes: 128 with 4 bits of each number, 64 with 2 more, 16 scales of 8 bits, their scale. Of each half, 128
/// numbers, 64 bytes have the low bits: low halves first. 32 bytes have the high bits, 2 for every 32 numbers. 32
/// stands for zero.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low_bits, rest) = block.split_at(128);
    let (high_bits, scales) = rest.split_at(64);
    let scale = f16_at(block, 208);
    for (index, out) in out.chunks_exact_mut(32).enumerate() {
        let (half, part) = (index / 4, index % 4);
        let low_bits = &low_bits[half * 64 + part % 2 * 32..];
        let high_bits = &high_bits[half * 32..];
        for (place, out) in out.iter_mut().enumerate() {
            let low = (low_bits[place] >> (part / 2 * 4)) & 15;
            let high = (high_bits[place] >> (part * 2)) & 3;
            let step = scale * f32::from(scales[index * 2 + place / 16].cast_signed());
            *out = step * (f32::from(low | (high << 4)) - 32.0);
        }
    }
}
