//! How programs call sendmail: options of one letter, with their values behind them or in the next
//! word. What is unknown is passed over, as it always was: a program must not fail for an option
//! that only meant something to another sendmail. Pure.

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct SendmailArguments {
    /// What is to be done.
    pub(in crate::cli) mode: Mode,
    /// The reverse-path; `None`: that of who calls.
    pub(super) sender: Option<String>,
    /// The name of the author, for a From field that is missing.
    pub(super) full_name: Option<String>,
    /// Whether the recipients stand in the header.
    pub(super) reads_recipients: bool,
    /// Whether a line with a dot alone ends the message.
    pub(super) ends_at_dot: bool,
    /// The recipients.
    pub(super) recipients: Vec<String>,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Mode {
    /// Send what comes on standard input.
    Deliver,
    /// `-bi`: make the tables anew.
    Initialise,
    /// `-bp`: list the queue.
    List,
    /// `-q`: run the queue.
    RunQueue,
    /// `-bs`: speak SMTP.
    Speak,
}

impl SendmailArguments {
    /// Reads the words behind the name of the program; errs with what is wrong.
    pub(in crate::cli) fn read(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut all = Self {
            mode: Mode::Deliver,
            sender: None,
            full_name: None,
            reads_recipients: false,
            ends_at_dot: true,
            recipients: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                all.recipients.extend(words);
                break;
            }
            match word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                Some(option) => all.option(option, &mut words)?,
                None => all.recipients.push(word),
            }
        }
        Ok(all)
    }

    fn option(
        &mut self,
        option: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        let mut letters = option.chars();
        let letter = letters.next().unwrap_or_default();
        let rest = letters.as_str();
        let mut value = || match rest {
            "" => words.next().ok_or_else(|| format!("-{letter} needs a value")),
            rest => Ok(rest.to_owned()),
        };
        match letter {
            'b' => self.mode = mode(&value()?)?,
            'f' | 'r' => self.sender = Some(value()?),
            'F' => self.full_name = Some(value()?),
            // Several of these may stand in one word.
            'i' | 't' | 'v' => {
                self.ends_at_dot &= letter != 'i';
                self.reads_recipients |= letter == 't';
                if !rest.is_empty() {
                    return self.option(rest, words);
                }
            }
            'o' => self.ends_at_dot &= value()? != "i",
            'q' => self.mode = Mode::RunQueue,
            // Their values go with them.
            'A' | 'B' | 'C' | 'D' | 'd' | 'h' | 'L' | 'N' | 'O' | 'p' | 'R' | 'V' | 'X' => {
                value()?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn mode(word: &str) -> Result<Mode, String> {
    match word {
        "i" => Ok(Mode::Initialise),
        "m" => Ok(Mode::Deliver),
        "p" => Ok(Mode::List),
        "s" => Ok(Mode::Speak),
        _ => Err(format!("-b{word} is not known here; `merpati serve` runs the relay")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_as_programs_write_them() {
        let read = |line: &str| {
            let words = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
            SendmailArguments::read(words)
        };
        for (line, sender, reads, dot, to) in [
            ("-t -i", None, true, false, ""),
            ("-ti", None, true, false, ""),
            (
                "-oi -f ani@a.example budi@b.example",
                Some("ani@a.example"),
                false,
                false,
                "budi@b.example",
            ),
            (
                "-fani@a.example -- -odd@b.example",
                Some("ani@a.example"),
                false,
                true,
                "-odd@b.example",
            ),
            ("-FAni -odb -om budi c", None, false, true, "budi c"),
            ("-bm -r <> a -B 8BITMIME b", Some("<>"), false, true, "a b"),
        ] {
            let all = read(line).unwrap();
            assert_eq!(all.mode, Mode::Deliver, "{line}");
            assert_eq!(all.sender.as_deref(), sender, "{line}");
            assert_eq!((all.reads_recipients, all.ends_at_dot), (reads, dot), "{line}");
            assert_eq!(all.recipients.join(" "), to, "{line}");
        }
        for (line, mode) in [
            ("-bs", Mode::Speak),
            ("-bp", Mode::List),
            ("-bi", Mode::Initialise),
            ("-q30m", Mode::RunQueue),
        ] {
            assert_eq!(read(line).unwrap().mode, mode, "{line}");
        }
        assert!(read("-f").is_err());
        assert!(read("-bd").unwrap_err().contains("merpati serve"));
    }
}
