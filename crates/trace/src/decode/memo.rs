//! Numbers of texts by their bytes, for the few texts that come again and again: device, ring and thread names.
//!
//! [`TraceNames`](gpuscope_model::trace::TraceNames) knows them all; to ask it takes a hash of the text and a comparison byte by byte,
//! twice a record. Here a short text is a few words, compared as numbers.

/// A text of up to 32 bytes as numbers: equal for equal bytes, and for no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Short {
    words: [u64; 4],
    length: u64,
}

impl Short {
    #[inline]
    pub(super) fn new(bytes: &[u8]) -> Option<Short> {
        let length = bytes.len();
        // First and last words, which overlap where the text is no whole number of them.
        let words = if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
            if length > 32 {
                return None;
            }
            let ([a, b], [c, d]) = (halves(first), halves(last));
            [a, b, c, d]
        } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            [u64::from_ne_bytes(*first), u64::from_ne_bytes(*last), 0, 0]
        } else {
            [bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0, 0, 0]
        };
        Some(Short { words, length: length as u64 })
    }
}

#[inline]
fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let all = u128::from_ne_bytes(*bytes);
    [all as u64, (all >> 64) as u64]
}

/// What a memo is asked by.
pub(super) trait Key: Copy + PartialEq {
    /// Any number that is equal for equal keys.
    fn mix(&self) -> u64;
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Key for Short {
    #[inline]
    fn mix(&self) -> u64 {
        let [a, b, c, d] = self.words;
        (a ^ b.rotate_left(23) ^ c.rotate_left(41) ^ d.rotate_left(11) ^ self.length).wrapping_mul(FACTOR)
    }
}

impl Key for (Short, Short) {
    #[inline]
    fn mix(&self) -> u64 {
        (self.0.mix() ^ self.1.mix().rotate_left(29)).wrapping_mul(FACTOR)
    }
}

const PLACES: usize = 256;

/// The last two values for each of a few places. What is pushed out is asked for again and comes back.
#[derive(Debug)]
pub(super) struct Memo<K, V> {
    places: Vec<[Place<K, V>; 2]>,
}

type Place<K, V> = Option<(K, V)>;

impl<K: Key, V: Copy> Default for Memo<K, V> {
    fn default() -> Self {
        Memo { places: vec![[None; 2]; PLACES] }
    }
}

impl<K: Key, V: Copy> Memo<K, V> {
    #[inline]
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let [one, two] = self.places.get(place(key))?;
        match (one, two) {
            (Some((found, value)), _) if found == key => Some(*value),
            (_, Some((found, value))) if found == key => Some(*value),
            _ => None,
        }
    }

    /// Keeps a value, if its key is short enough to be one.
    pub(super) fn put(&mut self, key: Option<K>, value: V) {
        if let Some(key) = key
            && let Some([one, two]) = self.places.get_mut(place(&key))
        {
            *two = one.take();
            *one = Some((key, value));
        }
    }
}

#[inline]
fn place<K: Key>(key: &K) -> usize {
    (key.mix() >> 56) as usize
}

/// One value for each of a few places, found by a number that says which place and known by a key: for what mostly stays the same for
/// that number.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    places: Vec<Place<K, V>>,
}

/// A power of two.
const RECENT: usize = 1024;

impl<K: Copy + PartialEq, V: Copy> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { places: vec![None; RECENT] }
    }
}

impl<K: Copy + PartialEq, V: Copy> Recent<K, V> {
    #[inline(always)]
    pub(super) fn get(&self, number: u64, key: &K) -> Option<V> {
        match self.places.get(number as usize & (RECENT - 1))? {
            Some((found, value)) if found == key => Some(*value),
            _ => None,
        }
    }

    pub(super) fn put(&mut self, number: u64, key: K, value: V) {
        if let Some(place) = self.places.get_mut(number as usize & (RECENT - 1)) {
            *place = Some((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_differ_where_any_byte_or_the_length_does() {
        let text: Vec<u8> = (1..=40).collect();
        for length in 0..=32 {
            let whole = Short::new(&text[..length]).unwrap();
            assert_eq!(Short::new(&text.clone()[..length]), Some(whole));
            for at in 0..length {
                let mut other = text[..length].to_vec();
                other[at] ^= 0x80;
                assert_ne!(Short::new(&other), Some(whole), "byte {at} of {length}");
            }
            let mut zeros = text[..length].to_vec();
            zeros.push(0);
            assert_ne!(Short::new(&zeros), Some(whole), "{length} bytes and a zero");
        }
        assert_eq!(Short::new(&text), None);
    }

    #[test]
    fn more_texts_than_places_never_give_a_wrong_number() {
        let mut memo = Memo::default();
        let key = |n: u32| Short::new(&n.to_ne_bytes());
        for n in 0..10_000 {
            memo.put(key(n), n);
            assert_eq!(memo.get(&key(n).unwrap()), Some(n), "the last one is there");
        }
        let found = (0..10_000).filter(|n| memo.get(&key(*n).unwrap()).inspect(|found| assert_eq!(found, n)).is_some());
        assert!((1..=2 * PLACES).contains(&found.count()));
    }
}
