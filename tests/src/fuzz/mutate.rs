//! Damage: what disks, networks and people do to files, drawn from a seed.

/// Longest input, in bytes.
const LONGEST: usize = 1 << 20;
/// Numbers that stand in the place of others in texts.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "1000000000",
    "2147483647",
    "4294967295",
    "9007199254740992",
    "9223372036854775807",
    "18446744073709551615",
    "1e300",
    "1e400",
    "0.1e-400",
];
/// Pieces that mean something to a reader of texts.
const PIECES: [&[u8]; 20] = [
    b"\"",
    b"\\",
    b"{",
    b"[[[[[[[[[[[[[[[[",
    b"]",
    b"null",
    b"nan",
    b"inf",
    b"\n",
    b"\r",
    b"\0",
    b"../",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xf0\x9f\x98\x80",
    b"\xcc\x81",
    b"|",
    b"\t",
    b"=",
    b"\x1b[2J",
];

/// A generator of numbers of its own (SplitMix64), the same in every version.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The generator of one input of a target.
    pub fn of(target: &str, seed: u64, index: usize) -> Self {
        let words = target.bytes().chain((index as u64).to_le_bytes());
        // FNV-1a.
        let state = words.fold(seed ^ 0xcbf2_9ce4_8422_2325, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(state)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.roll().checked_rem(bound as u64).unwrap_or(0) as usize
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A piece of `bytes`, at most `most` long.
    fn range(&mut self, bytes: &[u8], most: usize) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let length = self.below(most.min(bytes.len() - start) + 1);
        start..start + length
    }
}

/// A copy of one of the seeds with one to four kinds of damage.
///
/// # Panics
/// If there are no seeds.
pub fn damaged(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let other = &seeds[dice.below(seeds.len())];
        damage(&mut bytes, other, dice);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    match dice.below(10) {
        0 => {
            for _ in 0..=dice.below(8) {
                let (place, bit) = (dice.below(bytes.len()), dice.below(8));
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            }
        }
        1 => bytes.truncate(dice.below(bytes.len() + 1)),
        2 => {
            let cut = dice.range(bytes, 64);
            bytes.drain(cut);
        }
        3 => {
            // A page that never reached the disk.
            let page = dice.pick(&[16, 512, 4096]);
            let start = dice.below(bytes.len().div_ceil(page)) * page;
            let end = (start + page).min(bytes.len());
            bytes[start..end].fill(0);
        }
        4 => {
            let piece = dice.range(bytes, 64);
            let piece = bytes[piece].repeat(1 + dice.below(32));
            let place = dice.below(bytes.len() + 1);
            bytes.splice(place..place, piece);
        }
        5 => {
            bytes.truncate(dice.below(bytes.len() + 1));
            bytes.extend(&other[dice.below(other.len() + 1)..]);
        }
        6 => {
            let piece = dice.pick(&PIECES);
            let place = dice.below(bytes.len() + 1);
            bytes.splice(place..place, piece.iter().copied());
        }
        7 => {
            let count = 1 + dice.below(16);
            let piece: Vec<u8> = (0..count).map(|_| dice.roll() as u8).collect();
            let place = dice.below(bytes.len() + 1);
            bytes.splice(place..place, piece);
        }
        8 => binary_number(bytes, dice),
        _ => text_number(bytes, dice),
    }
}

/// Puts an extreme number of one to eight bytes over others.
fn binary_number(bytes: &mut [u8], dice: &mut Dice) {
    let size = dice.pick(&[1, 2, 4, 8]);
    let most = u64::MAX >> (64 - 8 * size);
    let number = dice.pick(&[0, 1, most, most - 1, most >> 1, (most >> 1) + 1, most >> 8]);
    let mut word = number.to_le_bytes()[..size].to_vec();
    if dice.below(2) == 0 {
        word.reverse();
    }
    let start = dice.below(bytes.len());
    for (byte, new) in bytes.iter_mut().skip(start).zip(word) {
        *byte = new;
    }
}

/// Puts an extreme number in the place of one in a text; of a byte where there is none.
fn text_number(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let is_digit = |place: usize| bytes.get(place).is_some_and(u8::is_ascii_digit);
    let starts =
        (0..bytes.len()).filter(|&place| is_digit(place) && !(place > 0 && is_digit(place - 1)));
    let starts: Vec<usize> = starts.collect();
    if starts.is_empty() {
        return binary_number(bytes, dice);
    }
    let start = dice.pick(&starts);
    let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit());
    let end = start + length.count();
    bytes.splice(start..end, dice.pick(&NUMBERS).bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_follows_from_target_seed_and_index_alone() {
        let seeds = [b"{\"a\": 12, \"b\": [3, 4]}".to_vec(), vec![7; 40]];
        let input = |target, seed, index| damaged(&seeds, &mut Dice::of(target, seed, index));
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..100 {
            assert_eq!(input("a", 1, index), input("a", 1, index));
            seen.insert(input("a", 1, index));
        }
        // Cuts and zeros may meet.
        assert!(seen.len() > 80, "{}", seen.len());
        assert_ne!(
            (0..9).map(|i| input("a", 1, i)).collect::<Vec<_>>(),
            (0..9).map(|i| input("b", 1, i)).collect::<Vec<_>>()
        );
        assert_ne!(
            (0..9).map(|i| input("a", 1, i)).collect::<Vec<_>>(),
            (0..9).map(|i| input("a", 2, i)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn numbers_of_a_text_are_replaced_whole() {
        for index in 0..200 {
            let mut bytes = b"a 123 b".to_vec();
            text_number(&mut bytes, &mut Dice::of("number", 1, index));
            let text = String::from_utf8(bytes).unwrap();
            let number = text.strip_prefix("a ").and_then(|t| t.strip_suffix(" b"));
            assert!(NUMBERS.contains(&number.unwrap()), "{text}");
        }
    }

    #[test]
    fn empty_and_long_seeds_are_damaged_too() {
        let seeds = [Vec::new(), vec![1], vec![2; LONGEST]];
        for index in 0..300 {
            let input = damaged(&seeds, &mut Dice::of("sizes", 1, index));
            assert!(input.len() <= LONGEST);
        }
    }
}
