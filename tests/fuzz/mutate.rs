//! Changing inputs: a few small changes of a seed, each of which a parser may be wrong about. The same number makes the same.

/// Numbers that look random (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One below `end`; 0 where there is none.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { usize::try_from(self.next() % end as u64).unwrap() }
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A range in something so long, mostly short.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let begin = self.below(len + 1);
        let most = if self.below(4) == 0 { len } else { 16 };
        begin..(begin + self.below(most.min(len - begin) + 1))
    }
}

/// No input is longer.
const MOST: usize = 64 * 1024;

/// What grammars are made of, and what is just beside it.
const PIECES: [&[u8]; 44] = [
    b"\0",
    b"\t",
    b"\n",
    b"\r\n",
    b" ",
    b"\x7f",
    b"\xff",
    b"\xc3\xa9",
    b"\xc0\xaf",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\x98\x80",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"==",
    b"&",
    b"%",
    b"%00",
    b"%2e",
    b"%2F",
    b"%25",
    b"+",
    b"-",
    b"/",
    b"/../",
    b"//",
    b";",
    b"?",
    b"#",
    b"@",
    b"0",
    b"60",
    b"9999",
    b"18446744073709551616",
    b"1e999",
    b"null",
];

/// A seed with one to six changes.
pub(crate) fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.of(seeds).clone();
    for _ in 0..=random.below(6) {
        let (at, range) = (random.below(input.len()), random.range(input.len()));
        match random.below(11) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.next() as u8,
            2 if !input.is_empty() => input[at] = input[at].wrapping_add(1),
            3 if !input.is_empty() => input[at] = input[at].wrapping_sub(1),
            4 => drop(input.drain(range)),
            // What is there twice.
            5 => input.splice(range.end..range.end, input[range].to_vec()).for_each(drop),
            // What another seed has.
            6 => {
                let other = random.of(seeds);
                let piece = other[random.range(other.len())].to_vec();
                drop(input.splice(range, piece));
            }
            7 => input.truncate(range.start),
            8 => {
                let other = random.of(seeds);
                let piece = other[random.range(other.len())].to_vec();
                drop(input.splice(range.start..range.start, piece));
            }
            9 => drop(input.splice(range, random.of(&PIECES).iter().copied())),
            _ => drop(input.splice(at..at, random.of(&PIECES).iter().copied())),
        }
    }
    input.truncate(MOST);
    input
}
