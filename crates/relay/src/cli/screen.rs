//! A terminal that is drawn anew again and again, and the keys that are typed meanwhile.
//!
//! Invariant: where the command ends, the terminal is as it was before; what kills it leaves that
//! to `reset`. Not pure.

use std::{
    io::{self, IsTerminal, Read, Stdin, Stdout, Write},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};

use super::output::harmless_line;

/// The terminal of the process, as long as this lives.
pub(super) struct Screen {
    before: Termios,
    keys: Stdin,
    out: Stdout,
}

impl Screen {
    /// Takes the terminal over; `None` where standard input or output is none.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        // Keys come at once and are not shown; that for the end is one of them, or it would leave
        // the terminal like this.
        modes.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
        let screen = Self { before, keys: io::stdin(), out: io::stdout() };
        write_now(OPEN)?;
        Ok(Some(screen))
    }

    /// Shows these lines, as many and as much of each as there is room for.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let size = tcgetwinsize(&self.out)?;
        let (rows, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
        write_now(&frame(lines, rows, columns))
    }

    /// Waits for so long, or until somebody wants the end: `q`, Ctrl-C or Ctrl-D. True then.
    pub(super) fn wait(&self, pause: Duration) -> io::Result<bool> {
        let end = std::time::Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut asked = [PollFd::new(&self.keys, PollFlags::IN)];
            match poll(&mut asked, Some(&timeout)) {
                // Time is up; or a signal came, such as that of another size.
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    let mut keys = [0; 64];
                    let count = self.keys.lock().read(&mut keys)?;
                    let typed = keys.get(..count).unwrap_or_default();
                    if count == 0 || typed.iter().any(|key| ENDS.contains(key)) {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal has gone there is nothing to restore.
        write_now(CLOSE).ok();
        tcsetattr(&self.keys, OptionalActions::Now, &self.before).ok();
    }
}

/// What draws these lines over whatever was there.
fn frame(lines: &[String], rows: usize, columns: usize) -> String {
    let mut frame = "\x1b[H".to_owned();
    for (nth, line) in lines.iter().take(rows.max(1)).enumerate() {
        if nth > 0 {
            frame.push_str("\r\n");
        }
        frame.push_str("\x1b[K");
        let text = harmless_line(line).replace('\t', " ");
        frame.extend(text.chars().take(columns.max(1)));
    }
    frame.push_str("\x1b[J");
    frame
}

fn write_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// To the second screen, without a cursor; what is too wide is cut off.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Ctrl-C, Ctrl-D, `q` and `Q`.
const ENDS: [u8; 4] = [3, 4, b'q', b'Q'];

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_fits_the_screen_and_leaves_nothing_of_the_one_before() {
        let lines = ["one".to_owned(), "two\x1b[2J".to_owned(), "three".to_owned()];
        assert_eq!(
            frame(&lines, 2, 4),
            "\x1b[H\x1b[Kone\r\n\x1b[Ktwo\u{fffd}\x1b[J",
            "what mail brings cannot steer the terminal"
        );
        assert_eq!(frame(&[], 0, 0), "\x1b[H\x1b[J");
    }
}
