//! What a test program printed: how its tests ended, and what those that failed had to say.

/// Output of libtest, run with `--nocapture --test-threads=1`.
#[derive(Default)]
pub(crate) struct Transcript {
    lines: Vec<String>,
}

/// Lines that are kept of what one test printed; its last, which have the panic and where it came from.
const KEPT_LINES: usize = 60;
/// Characters that are kept of a line.
const KEPT_CHARACTERS: usize = 500;

impl Transcript {
    /// Takes the next line.
    pub(crate) fn push(&mut self, line: &str) {
        self.lines.push(line.to_string());
    }

    /// How many tests passed and how many failed; None if the program did not come to its end.
    pub(crate) fn result(&self) -> Option<(u32, u32)> {
        self.lines.iter().rev().find_map(|line| result_line(line))
    }

    /// Names of the tests that failed, from the list at the end.
    pub(crate) fn failed(&self) -> Vec<&str> {
        let Some(list) = self.lines.iter().rposition(|line| line == "failures:") else { return Vec::new() };
        let names = self.lines.iter().skip(list + 1).map_while(|line| line.strip_prefix("    "));
        names.filter(|name| self.block(name).is_some()).collect()
    }

    /// The last of what one test printed; of a program that did not come to its end (`test` is None), the last of everything.
    pub(crate) fn last_words(&self, test: Option<&str>) -> Vec<String> {
        let block = test.and_then(|name| self.block(name)).unwrap_or(&self.lines);
        let last = block.iter().skip(block.len().saturating_sub(KEPT_LINES));
        last.map(|line| line.chars().take(KEPT_CHARACTERS).collect()).collect()
    }

    /// The lines of one test, from its `test NAME ... ` to the next test's.
    fn block(&self, test: &str) -> Option<&[String]> {
        let start = self.lines.iter().position(|line| begins(line) == Some(test))?;
        let rest = self.lines.get(start..)?;
        let ends = |line: &String| begins(line).is_some() || line == "failures:";
        let end = rest.iter().skip(1).position(ends).map_or(rest.len(), |i| i + 1);
        rest.get(..end)
    }
}

/// Name of the test that starts with this line.
fn begins(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (!name.contains(' ')).then_some(name)
}

/// Numbers of libtest's `test result: ok. 3 passed; 0 failed; …`.
fn result_line(text: &str) -> Option<(u32, u32)> {
    let (_, numbers) = text.strip_prefix("test result: ")?.split_once(". ")?;
    let mut words = numbers.split_whitespace();
    let passed = words.next()?.parse().ok()?;
    let failed = words.nth(1)?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libtest of Rust 1.95 prints it.
    const PRINTED: &str = "
running 3 tests
test what_is_told ... 7.2: 3 jobs
ok
test what_is_lost ... 7.2: 4 jobs

thread 'what_is_lost' (17) panicked at testbed/tests/jobs.rs:10:5:
assertion failed: 4 == 3
FAILED
test what_is_late ... ok

failures:

failures:
    what_is_lost

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.51s
";

    fn transcript(text: &str) -> Transcript {
        Transcript { lines: text.lines().map(str::to_string).collect() }
    }

    #[test]
    fn failed_tests_are_named_with_what_they_said() {
        let printed = transcript(PRINTED);
        assert_eq!(printed.result(), Some((2, 1)));
        assert_eq!(printed.failed(), ["what_is_lost"]);
        let said = printed.last_words(Some("what_is_lost"));
        assert_eq!(said.first().unwrap(), "test what_is_lost ... 7.2: 4 jobs");
        assert_eq!(said.last().unwrap(), "FAILED");
        assert!(said.contains(&"assertion failed: 4 == 3".to_string()));
    }

    #[test]
    fn a_program_that_fell_over_has_no_result_but_last_words() {
        let cut = PRINTED.split("FAILED").next().unwrap();
        let printed = transcript(cut);
        assert_eq!(printed.result(), None);
        assert!(printed.failed().is_empty());
        assert_eq!(printed.last_words(None).last().unwrap(), "assertion failed: 4 == 3");
    }

    #[test]
    fn last_words_are_bounded() {
        let long = format!("test t ... {}\n{}FAILED", "x".repeat(2 * KEPT_CHARACTERS), "line\n".repeat(2 * KEPT_LINES));
        assert_eq!(transcript(&long).last_words(Some("t")).len(), KEPT_LINES);
        let wide = transcript(&format!("test t ... {}", "é".repeat(2 * KEPT_CHARACTERS)));
        assert_eq!(wide.last_words(None).first().unwrap().chars().count(), KEPT_CHARACTERS);
    }

    #[test]
    fn a_program_whose_tests_all_passed_has_no_failed_ones() {
        let printed = transcript("test a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored");
        assert_eq!(printed.result(), Some((1, 0)));
        assert!(printed.failed().is_empty());
    }
}
