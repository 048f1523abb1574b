//! Which known word was probably meant.
//!
//! Pure.

/// The known word nearest to `word`; `None` where none is near enough to be a slip of the finger.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(steps, _)| steps <= 1 + length / 3)
        .min_by_key(|&(steps, _)| steps)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove, replace or swap with a neighbour to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, letter) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, j) + usize::from(letter != *other);
            let mut steps = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let other_before = j.checked_sub(1).and_then(|k| b.get(k));
            if last == Some(*other) && other_before == Some(&letter) {
                steps = steps.min(at(&before, j - 1).saturating_add(1));
            }
            row.push(steps);
        }
        before = std::mem::replace(&mut above, row);
        last = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}

/// Longer words are not compared.
const WORD_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let known = ["hostname", "data_dir", "http_listen", "subject", "to"];
        for (word, want) in [
            ("hostnam", Some("hostname")),
            ("hsotname", Some("hostname")),
            ("datadir", Some("data_dir")),
            ("subjcet", Some("subject")),
            ("ot", Some("to")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }

    #[test]
    fn distance_counts_a_swap_as_one() {
        for (a, b, want) in
            [("", "", 0), ("ab", "ba", 1), ("abc", "abc", 0), ("abc", "", 3), ("", "xy", 2)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }
}
