//! Words that the administrator names: what has one of them isn't written, or isn't for the public timelines.

use regex_lite::RegexBuilder;

/// The largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// Whether a text has what one of these lines says: all of its words, or what fits its pattern between slashes.
pub fn has_any<'l>(text: &str, mut lines: impl Iterator<Item = &'l str>) -> bool {
    lines.any(|line| match pattern(line) {
        Some((pattern, flags)) => fits(text, pattern, flags),
        None => {
            let mut words = line.split(' ').filter(|word| !word.is_empty()).peekable();
            words.peek().is_some() && words.all(|word| text.contains(word))
        }
    })
}

/// What is between the slashes, and the letters behind them.
fn pattern(line: &str) -> Option<(&str, &str)> {
    let (pattern, flags) = line.strip_prefix('/')?.rsplit_once('/')?;
    (!pattern.is_empty()).then_some((pattern, flags))
}

/// A pattern that can't be read fits nothing.
fn fits(text: &str, pattern: &str, flags: &str) -> bool {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .size_limit(MAX_PATTERN_BYTES)
        .build();
    built.is_ok_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_words_or_a_pattern() {
        for (line, text, expected) in [
            ("bad", "not so bad", true),
            ("bad", "Bad", false),
            ("very bad", "bad, very much", true),
            ("very bad", "bad", false),
            ("", "anything", false),
            (" ", "any thing", false),
            ("/b.d/", "bid", true),
            ("/b.d/i", "BID", true),
            ("/b.d/", "BID", false),
            ("/(/", "(", false),
            ("/", "a/b", true),
        ] {
            assert_eq!(has_any(text, [line].into_iter()), expected, "{line:?} in {text:?}");
        }
        assert!(!has_any("text", std::iter::empty()));
    }
}
