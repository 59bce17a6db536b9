//! Ids derived from a seed: the same command decides the same ids, however often it is decided.

/// Derives ids and jitter from a command's seed by counter.
#[derive(Clone, Debug)]
pub struct IdSource {
    seed: (u64, u64),
    counter: u64,
}

impl IdSource {
    pub fn new(seed_high: u64, seed_low: u64) -> Self {
        // Seeds may be neighbours, as offsets are: spread, so that one's counter never runs into the next one's ids.
        let high = mix(seed_high ^ mix(seed_low));
        Self { seed: (high, mix(seed_low ^ high)), counter: 0 }
    }

    /// Ids that a run of this id derives for the event of this number: always the same.
    pub fn of_event(run_id: &str, event_id: i64) -> Self {
        let digits = u128::from_str_radix(&run_id.replace('-', ""), 16).unwrap_or_default();
        Self::new((digits >> 64) as u64 ^ digits as u64, event_id as u64)
    }

    /// The next random-looking number.
    pub fn number(&mut self) -> u64 {
        self.counter += 1;
        mix(self.seed.0 ^ mix(self.seed.1.wrapping_add(self.counter)))
    }

    /// The next id, in the form of a version 4 UUID.
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.number(), self.number());
        uuid_from(high, low)
    }

    /// The next id of a run that begins at `now_ms`, in milliseconds since the Unix epoch: a version 7 UUID, as Temporal's
    /// server gives, so that the ids of runs sort by when they began.
    pub fn run_id(&mut self, now_ms: i64) -> String {
        let (high, low) = (self.number(), self.number());
        format_uuid((now_ms as u64) << 16 | (high & 0x0fff) | 0x7000, low)
    }
}

/// Formats 128 bits as a version 4 UUID.
pub fn uuid_from(high: u64, low: u64) -> String {
    format_uuid((high & 0xffff_ffff_ffff_0fff) | 0x4000, low)
}

/// Whether a text is a UUID, as RFC 9562 writes it.
pub fn is_uuid(text: &str) -> bool {
    let is_hyphen = |place| matches!(place, 8 | 13 | 18 | 23);
    let fits = |(place, byte): (usize, u8)| if is_hyphen(place) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

/// Formats 128 bits, whose version is set, as a UUID.
fn format_uuid(high: u64, low: u64) -> String {
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// SplitMix64's finaliser: every bit of the input reaches every bit of the output.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_ids_and_different_counters_different_ones() {
        let (mut a, mut b) = (IdSource::new(1, 2), IdSource::new(1, 2));
        let first = a.uuid();
        assert_eq!(first, b.uuid());
        assert_ne!(first, a.uuid());
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "4");
    }

    #[test]
    fn run_ids_are_of_version_7_and_sort_by_time() {
        let mut ids = IdSource::new(1, 2);
        let earlier = ids.run_id(1_700_000_000_000);
        assert_eq!((&earlier[..13], &earlier[14..15]), ("018bcfe5-6800", "7"));
        assert!(earlier < IdSource::new(3, 4).run_id(1_700_000_000_001) && earlier != ids.run_id(1_700_000_000_000));
    }

    #[test]
    fn neighbouring_seeds_share_no_id() {
        let ids = (0..100).flat_map(|seed| {
            let mut ids = IdSource::new(7, seed);
            (0..100).map(move |_| ids.number())
        });
        assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 10_000);
    }
}
