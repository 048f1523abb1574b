//! How an input becomes another one. Pure: the same lots give the same inputs.

use merpati_mail::Draw;

/// Inputs to choose from: the corpus, and some of what was made of it.
#[derive(Clone, Debug)]
pub struct Pool {
    inputs: Vec<Vec<u8>>,
    /// So many stay for ever.
    seeds: usize,
    draw: Draw,
}

impl Pool {
    /// A pool that begins with these inputs.
    pub fn new(mut seeds: Vec<Vec<u8>>, draw: Draw) -> Self {
        if seeds.is_empty() {
            seeds.push(Vec::new());
        }
        Self { seeds: seeds.len(), inputs: seeds, draw }
    }

    /// The next input: each seed as it is, then what comes of changes.
    pub fn next_input(&mut self, number: u64) -> Vec<u8> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if at < self.seeds {
            return self.inputs[at].clone();
        }
        let mut input = self.any().clone();
        for _ in 0..=self.draw.below(6) {
            self.change(&mut input);
        }
        input.truncate(INPUT_OCTETS_MAX);
        // Nothing tells whether an input is worth it; by lot some get a life of their own.
        if self.draw.chance(3) {
            if self.inputs.len() < self.seeds + CHILDREN_MAX {
                self.inputs.push(input.clone());
            } else {
                let at = self.seeds + self.below(CHILDREN_MAX);
                self.inputs[at].clone_from(&input);
            }
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let len = self.below(1 + (input.len() - at).min(40));
        match self.draw.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.draw.below(8),
            1 if at < input.len() => input[at] = self.octet(),
            2 => {
                input.drain(at..at + len);
            }
            3 => {
                let again = input[at..at + len].to_vec();
                let times = 1 + self.below(30);
                insert(input, at, &again.repeat(times));
            }
            4 => {
                let other = self.any();
                let other = other.clone();
                let from = self.below(other.len() + 1);
                let len = self.below(1 + other.len() - from);
                insert(input, at, &other[from..from + len]);
            }
            5 => input.truncate(at),
            6 => {
                let octet = self.octet();
                insert(input, at, &[octet]);
            }
            _ => {
                let token = TOKENS[self.below(TOKENS.len())];
                insert(input, at, token);
            }
        }
    }

    fn any(&mut self) -> &Vec<u8> {
        // Half of the time a seed, however many children there are.
        let all = if self.draw.chance(50) { self.seeds } else { self.inputs.len() };
        let at = self.below(all);
        &self.inputs[at]
    }

    fn octet(&mut self) -> u8 {
        self.draw.bits().to_le_bytes()[0]
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.draw.below(end)).unwrap_or(0)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, octets: &[u8]) {
    input.splice(at..at, octets.iter().copied());
}

/// No input is longer.
const INPUT_OCTETS_MAX: usize = 8_192;

/// So many inputs that are not of the corpus are kept.
const CHILDREN_MAX: usize = 200;

/// What means something to one of the targets.
const TOKENS: [&[u8]; 65] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b".\r\n",
    b"\r\n.\r\n",
    b"\r\n..\r\n",
    b"\n.\n",
    b"\r.\r",
    b"EHLO a\r\n",
    b"HELO a\r\n",
    b"MAIL FROM:<",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<",
    b"RCPT TO:<b@b.example>\r\n",
    b"DATA\r\n",
    b"BDAT ",
    b"BDAT 3\r\nabc",
    b"BDAT 0 LAST\r\n",
    b" LAST\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN ",
    b"AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9eA==\r\n",
    b"AUTH EXTERNAL =\r\n",
    b"AUTH XOAUTH2 ",
    b"AUTH LOGIN\r\n",
    b"AGFuaQBzZWNyZXQ=",
    b"*\r\n",
    b" SIZE=",
    b" BODY=8BITMIME",
    b" SMTPUTF8",
    b" NOTIFY=NEVER",
    b" ORCPT=rfc822;a+40b",
    b" ENVID=",
    b" RET=FULL",
    b"18446744073709551615",
    b"\x16\x03\x01",
    b"GET / HTTP/1.1\r\n",
    b"220 ",
    b"220-",
    b"250 ",
    b"250-",
    b"250-PIPELINING\r\n",
    b"250-STARTTLS\r\n",
    b"250 OK\r\n",
    b"354 \r\n",
    b"421 \r\n",
    b"550 5.1.1 ",
    b"5.1.1 ",
    b"<",
    b">",
    b"@",
    b"\"",
    b"\\",
    b"(",
    b"[IPv6:::1]",
    b"xn--",
    "δ".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\xff",
    b": ",
    b"\r\n\t",
    b"--report-0000000000006",
];
