//! A name server of loopback that answers what a test tells it, right or wrong, and counts.
//!
//! A name has lines such as `MX 10 mx.example`, `0 A 127.0.0.1` with its TTL before the type, or a
//! word in place of the data (`MX SERVFAIL`) or of the whole (`NXDOMAIN`); see [`Odd`]. A name
//! without lines does not exist. A chain of aliases is followed as a recursive server does.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TLSA, TXT},
    },
};

use super::dnssec::Signer;

/// A running name server; it ends with this value.
pub struct Dns {
    pub address: SocketAddr,
    world: Arc<World>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct World {
    zones: Mutex<HashMap<String, Vec<Line>>>,
    asked: Mutex<HashMap<(String, RecordType), Asked>>,
    /// `None`: nothing is signed.
    signer: Mutex<Option<Signer>>,
    is_over: AtomicBool,
}

/// How often something was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub udp: usize,
    pub tcp: usize,
}

#[derive(Clone)]
struct Line {
    /// `None`: all of them.
    kind: Option<RecordType>,
    says: Says,
}

#[derive(Clone)]
enum Says {
    Record(u32, RData),
    Odd(Odd),
}

/// What is said in place of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    /// Nothing of this type, and no SOA record beside it (many a forwarder).
    Bare,
    /// A name that is a pointer to itself.
    CompressionLoop,
    /// No TCP: the connection ends. Over UDP all is truncated.
    CutTcp,
    /// Records of another name than the one that was asked for.
    ForeignAnswer,
    /// What is no DNS message.
    Garbage,
    /// A referral to other servers, as a server says that is not responsible.
    Lame,
    NoName,
    Refused,
    ServFail,
    /// No answer at all.
    Silence,
    /// The records, over TCP only.
    Truncated,
    /// The records under another number than that of the question.
    WrongId,
}

impl Dns {
    /// Starts it on a free port of this address.
    pub fn start(ip: Ipv4Addr) -> Self {
        let (udp, tcp) = sockets(ip);
        Self::over(udp, tcp)
    }

    /// Starts it there, after another one that has ended.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::over(UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap())
    }

    fn over(udp: UdpSocket, tcp: TcpListener) -> Self {
        let address = udp.local_addr().unwrap();
        let world = Arc::new(World::default());
        let threads = vec![
            spawn(&world, move |world| serve_udp(world, &udp)),
            spawn(&world, move |world| serve_tcp(world, &tcp)),
        ];
        Self { address, world, threads }
    }

    /// From now on this name is like this; without lines it does not exist.
    pub fn set(&self, name: &str, lines: &[impl AsRef<str>]) {
        let lines = lines.iter().map(|line| parse(line.as_ref())).collect();
        self.world.zones.lock().unwrap().insert(name.to_lowercase(), lines);
    }

    /// Signs all from now on, but for what is delegated to these domains; the key of the root goes
    /// into this file.
    pub fn sign(&self, anchor: &Path, unsigned: &[&str]) {
        let mut signer = Signer::new();
        signer.unsigned = unsigned.iter().map(|name| parse_name(name)).collect();
        signer.write_anchor(anchor);
        *self.world.signer.lock().unwrap() = Some(signer);
        self.set("", &["NS ns.root.example"]);
    }

    /// From now on the signatures of what stands at this name prove nothing.
    pub fn forge(&self, name: &str) {
        let mut signer = self.world.signer.lock().unwrap();
        signer.as_mut().unwrap().forged.insert(parse_name(name));
    }

    /// How often a name and a type were asked for.
    pub fn asked(&self, name: &str, kind: RecordType) -> Asked {
        let asked = self.world.asked.lock().unwrap();
        asked.get(&(name.to_lowercase(), kind)).copied().unwrap_or_default()
    }

    /// How many questions there were in all.
    pub fn questions(&self) -> usize {
        self.world.asked.lock().unwrap().values().map(|asked| asked.udp + asked.tcp).sum()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.world.is_over.store(true, Ordering::SeqCst);
        let udp = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        udp.send_to(b"over", self.address).ok();
        TcpStream::connect(self.address).ok();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn sockets(ip: Ipv4Addr) -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn spawn(world: &Arc<World>, work: impl FnOnce(&World) + Send + 'static) -> JoinHandle<()> {
    let world = Arc::clone(world);
    std::thread::spawn(move || work(&world))
}

fn serve_udp(world: &World, socket: &UdpSocket) {
    let mut buffer = [0; 4_096];
    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
        if world.is_over.load(Ordering::SeqCst) {
            return;
        }
        if let Some(answer) = world.answer(&buffer[..count], false) {
            socket.send_to(&answer, from).ok();
        }
    }
}

fn serve_tcp(world: &World, listener: &TcpListener) {
    std::thread::scope(|scope| {
        while let Ok((stream, _)) = listener.accept() {
            if world.is_over.load(Ordering::SeqCst) {
                return;
            }
            scope.spawn(move || converse(world, stream));
        }
    });
}

fn converse(world: &World, mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut length = [0; 2];
    while !world.is_over.load(Ordering::SeqCst) {
        match stream.read(&mut length[..1]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        if stream.read_exact(&mut length[1..]).is_err() {
            return;
        }
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(answer) = world.answer(&question, true) else { return };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    }
}

impl World {
    /// The octets of an answer; `None` for silence.
    fn answer(&self, question: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let request = Message::from_vec(question).ok()?;
        let query = request.queries.first()?;
        let (name, kind) = (query.name().clone(), query.query_type());
        let key = text(&name);
        let mut counts = self.asked.lock().unwrap();
        let asked = counts.entry((key.clone(), kind)).or_default();
        *(if is_tcp { &mut asked.tcp } else { &mut asked.udp }) += 1;
        drop(counts);
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let odd = self.odd(&key, kind);
        match odd {
            Some(Odd::Silence) => return None,
            Some(Odd::CutTcp) if is_tcp => return None,
            Some(Odd::CutTcp | Odd::Truncated) if !is_tcp => {
                return answer.truncate().to_vec().ok();
            }
            Some(Odd::Garbage) => return Some(question[..2].to_vec()),
            Some(Odd::CompressionLoop) => return Some(looping(&answer)),
            Some(Odd::WrongId) => answer.metadata.id ^= 1,
            Some(_) | None => {}
        }
        self.fill(&mut answer, (name.clone(), kind), odd);
        let wants_signatures = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        if let (true, Some(signer)) = (wants_signatures, &*self.signer.lock().unwrap()) {
            signer.sign(&mut answer, (&name, kind), |name| self.kinds(name));
        }
        let octets = answer.to_vec().ok()?;
        let fits = is_tcp || octets.len() <= usize::from(request.max_payload());
        if fits { Some(octets) } else { answer.truncate().to_vec().ok() }
    }

    fn odd(&self, key: &str, kind: RecordType) -> Option<Odd> {
        let zones = self.zones.lock().unwrap();
        let Some(lines) = zones.get(key).filter(|lines| !lines.is_empty()) else {
            return Some(Odd::NoName);
        };
        lines.iter().find_map(|line| match line.says {
            Says::Odd(odd) if line.kind.is_none_or(|own| own == kind) => Some(odd),
            Says::Odd(_) | Says::Record(..) => None,
        })
    }

    /// Adds what there is, along the chain of aliases.
    fn fill(&self, answer: &mut Message, (mut name, kind): (Name, RecordType), odd: Option<Odd>) {
        let mut odd = odd;
        for _ in 0..ALIASES_MAX {
            let code = match odd {
                Some(Odd::NoName) => ResponseCode::NXDomain,
                Some(Odd::Refused) => ResponseCode::Refused,
                Some(Odd::ServFail) => ResponseCode::ServFail,
                Some(_) | None => ResponseCode::NoError,
            };
            if code != ResponseCode::NoError {
                answer.metadata.response_code = code;
                answer.add_authorities((code == ResponseCode::NXDomain).then(soa));
                return;
            }
            if odd == Some(Odd::Lame) {
                let elsewhere = RData::NS(NS(parse_name("ns.elsewhere.example")));
                answer.add_authority(Record::from_rdata(Name::root(), 60, elsewhere));
                return;
            }
            let at = if odd == Some(Odd::ForeignAnswer) {
                parse_name("other.example")
            } else {
                name.clone()
            };
            let (records, alias) = self.records(&text(&name), kind);
            let found = !records.is_empty();
            answer.add_answers(records.into_iter().map(|(ttl, data)| record(&at, ttl, data)));
            let next = match (found, alias) {
                (false, Some(next)) => next,
                (false, None) if odd == Some(Odd::Bare) => return,
                (false, None) => {
                    answer.add_authority(soa());
                    return;
                }
                (true, _) => return,
            };
            answer.add_answer(record(&at, 60, RData::CNAME(CNAME(next.clone()))));
            name = next;
            odd = self.odd(&text(&name), kind);
        }
    }

    fn kinds(&self, name: &Name) -> Vec<RecordType> {
        let zones = self.zones.lock().unwrap();
        zones.get(&text(name)).into_iter().flatten().filter_map(|line| line.kind).collect()
    }

    fn records(&self, key: &str, kind: RecordType) -> (Vec<(u32, RData)>, Option<Name>) {
        let zones = self.zones.lock().unwrap();
        let mut found = Vec::new();
        let mut alias = None;
        for line in zones.get(key).into_iter().flatten() {
            if let Says::Record(ttl, data) = &line.says {
                if line.kind == Some(kind) {
                    found.push((*ttl, data.clone()));
                } else if let RData::CNAME(CNAME(to)) = data {
                    alias = Some(to.clone());
                }
            }
        }
        (found, alias)
    }
}

fn record(name: &Name, ttl: u32, data: RData) -> Record {
    let mut record = Record::from_rdata(name.clone(), ttl, data);
    record.dns_class = DNSClass::IN;
    record
}

fn soa() -> Record {
    let root = Name::root();
    let data = SOA::new(root.clone(), root.clone(), 1, 60, 60, 60, 60);
    Record::from_rdata(root, 60, RData::SOA(data))
}

/// An answer whose record has a name that points to itself.
fn looping(answer: &Message) -> Vec<u8> {
    let mut octets = answer.to_vec().unwrap();
    let pointer = 0xc000 | u16::try_from(octets.len()).unwrap();
    octets[7] = 1;
    octets.extend(pointer.to_be_bytes());
    octets.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    octets
}

/// A name in lower case, without its last dot; the root is empty.
fn text(name: &Name) -> String {
    let text = name.to_ascii().to_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// Reads labels with `\ddd` for an octet of any value; no label is the root.
fn parse_name(text: &str) -> Name {
    let label = |label: &str| {
        let mut octets = Vec::new();
        let mut rest = label;
        while let Some(first) = rest.chars().next() {
            if let Some(digits) = rest.strip_prefix('\\') {
                octets.push(digits[..3].parse::<u8>().unwrap());
                rest = &digits[3..];
            } else {
                octets.extend(first.to_string().bytes());
                rest = &rest[first.len_utf8()..];
            }
        }
        octets
    };
    let labels: Vec<Vec<u8>> = text.split('.').filter(|it| !it.is_empty()).map(label).collect();
    let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
    name.set_fqdn(true);
    name
}

fn parse(line: &str) -> Line {
    if let Some(odd) = odd(line) {
        return Line { kind: None, says: Says::Odd(odd) };
    }
    let (first, rest) = line.split_once(' ').unwrap();
    let (ttl, kind, data) = match first.parse::<u32>() {
        Ok(ttl) => {
            let (kind, data) = rest.split_once(' ').unwrap();
            (ttl, kind, data)
        }
        Err(_) => (60, first, rest),
    };
    let kind: RecordType = kind.parse().unwrap();
    let says = match odd(data) {
        Some(odd) => Says::Odd(odd),
        None => Says::Record(ttl, rdata(kind, data)),
    };
    Line { kind: Some(kind), says }
}

fn rdata(kind: RecordType, data: &str) -> RData {
    let address = || data.parse::<IpAddr>().unwrap();
    match (kind, data) {
        (RecordType::A | RecordType::AAAA, _) => match address() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        },
        // A string of a text holds 255 octets.
        (RecordType::TXT, text) => {
            let pieces = text.as_bytes().chunks(255);
            RData::TXT(TXT::new(
                pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect(),
            ))
        }
        (RecordType::NS, to) => RData::NS(NS(parse_name(to))),
        (RecordType::PTR, to) => RData::PTR(PTR(parse_name(to))),
        (RecordType::CNAME, to) => RData::CNAME(CNAME(parse_name(to))),
        (RecordType::MX, data) => {
            let (preference, host) = data.split_once(' ').unwrap();
            RData::MX(MX::new(preference.parse().unwrap(), parse_name(host)))
        }
        (RecordType::TLSA, data) => {
            let parts: Vec<&str> = data.split(' ').collect();
            let number = |at: usize| parts[at].parse::<u8>().unwrap();
            let octet = |at| u8::from_str_radix(&parts[3][at..at + 2], 16).unwrap();
            let octets = (0..parts[3].len()).step_by(2).map(octet).collect();
            RData::TLSA(TLSA::new(number(0).into(), number(1).into(), number(2).into(), octets))
        }
        (other, _) => panic!("a test wants {other}"),
    }
}

fn odd(word: &str) -> Option<Odd> {
    Some(match word {
        "BARE" => Odd::Bare,
        "COMPRESSION-LOOP" => Odd::CompressionLoop,
        "CUT-TCP" => Odd::CutTcp,
        "FOREIGN-ANSWER" => Odd::ForeignAnswer,
        "GARBAGE" => Odd::Garbage,
        "LAME" => Odd::Lame,
        "NXDOMAIN" => Odd::NoName,
        "REFUSED" => Odd::Refused,
        "SERVFAIL" => Odd::ServFail,
        "SILENCE" => Odd::Silence,
        "TRUNCATED" => Odd::Truncated,
        "WRONG-ID" => Odd::WrongId,
        _ => return None,
    })
}

/// Aliases that are followed in one answer.
const ALIASES_MAX: usize = 32;
