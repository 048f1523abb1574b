//! Random numbers from a seed: the same seed refuses and cuts in the same order.
//!
//! Pure.

/// `SplitMix64` (Steele, Lea and Flood, 2014): enough for percentages, never for secrets.
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// True in `percent` of 100 cases; never for 0, always from 100 on.
    pub fn percent(&mut self, percent: f64) -> bool {
        if percent <= 0.0 {
            return false;
        }
        // 32 bits are exact in an f64.
        let part = f64::from(u32::try_from(self.next() >> 32).unwrap_or(u32::MAX));
        part < percent / 100.0 * 4_294_967_296.0
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_comes_as_often_as_it_says() {
        for (percent, least, most) in
            [(0.0, 0, 0), (1.0, 60, 140), (50.0, 4_800, 5_200), (100.0, 10_000, 10_000)]
        {
            let mut draw = Draw::new(7);
            let hits = (0..10_000).filter(|_| draw.percent(percent)).count();
            assert!((least..=most).contains(&hits), "{percent} %: {hits} of 10,000");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let run = |seed| {
            let mut draw = Draw::new(seed);
            (0..64).map(|_| draw.percent(50.0)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
