//! The clock, beside that of a time server (SNTP, RFC 4330): signatures, tokens and certificates
//! are believed by it.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use merpati_console::health::{Finding, Grade};
use tokio::{net::UdpSocket, time::timeout};

use super::Bench;

pub(super) async fn check(bench: Bench<'_>) -> Vec<Finding> {
    let Some(server) = &bench.config.health.time_server else { return Vec::new() };
    let about = server.to_string();
    let offset = match bench.resolver.addresses(server).await {
        Ok(addresses) => {
            let mut found = Err("it has no address".to_owned());
            for address in addresses.into_iter().take(SERVERS_MAX) {
                found = offset(SocketAddr::new(address, NTP_PORT)).await;
                if found.is_ok() {
                    break;
                }
            }
            found
        }
        Err(why) => Err(why.to_string()),
    };
    vec![judge(about, &offset)]
}

fn judge(about: String, offset: &Result<f64, String>) -> Finding {
    let finding = |grade, words: String| Finding::new("clock", about, grade, words);
    match offset {
        Err(why) => finding(Grade::Unknown, format!("the time server does not answer: {why}"))
            .fix("let UDP port 123 out, or set health.time_server"),
        Ok(offset) => {
            let words = format!("{offset:+.3} s beside the time server");
            match offset.abs() {
                ..SMALL_SECS => finding(Grade::Good, words),
                ..LARGE_SECS => finding(Grade::Warning, words).fix(FIX),
                _ => finding(Grade::Bad, format!("{words}: signatures of ours are not believed"))
                    .fix(FIX),
            }
        }
    }
}

/// How many seconds the clock is behind a server's.
async fn offset(server: SocketAddr) -> Result<f64, String> {
    let ask = async {
        let own = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await?;
        socket.connect(server).await?;
        let mut question = [0; PACKET_OCTETS];
        // Version 4, a client.
        question[0] = 0x23;
        let sent = seconds(SystemTime::now());
        socket.send(&question).await?;
        let mut answer = [0; PACKET_OCTETS];
        let octets = socket.recv(&mut answer).await?;
        let back = seconds(SystemTime::now());
        let told = times(answer.get(..octets).unwrap_or_default());
        let (received, replied) =
            told.ok_or_else(|| io::Error::other("its answer is none of a time server"))?;
        io::Result::Ok(f64::midpoint(received - sent, replied - back))
    };
    match timeout(ANSWER_WAIT, ask).await {
        Ok(found) => found.map_err(|why| why.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// When the question came and the answer left, in seconds since 1970; `None` where a server says
/// that it does not know.
fn times(packet: &[u8]) -> Option<(f64, f64)> {
    let (head, rest) = packet.split_first_chunk::<32>()?;
    let (mode, stratum) = (head[0] & 7, head[1]);
    let is_synchronised = head[0] >> 6 != 3 && (1..16).contains(&stratum);
    if mode != 4 || !is_synchronised {
        return None;
    }
    let (received, rest) = rest.split_first_chunk()?;
    let (replied, _) = rest.split_first_chunk()?;
    Some((timestamp(*received)?, timestamp(*replied)?))
}

/// A time as 32 bits of seconds since 1900 and 32 of their fraction; what looks like the years
/// before 1968 is of the next era, which begins in 2036 (RFC 4330 §3).
fn timestamp(octets: [u8; 8]) -> Option<f64> {
    let raw = u64::from_be_bytes(octets);
    let (seconds, fraction) = (raw >> 32, raw & u64::from(u32::MAX));
    let seconds = if seconds >> 31 == 0 { seconds + (1 << 32) } else { seconds };
    let since_1970 = u32::try_from(seconds.checked_sub(SECONDS_1900_TO_1970)?).ok()?;
    let fraction = u32::try_from(fraction).ok()?;
    (raw != 0).then(|| f64::from(since_1970) + f64::from(fraction) / 4_294_967_296.0)
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

const FIX: &str = "run chrony, ntpd or systemd-timesyncd";
const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
const PACKET_OCTETS: usize = 48;
const NTP_PORT: u16 = 123;
const SERVERS_MAX: usize = 2;
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// Seconds that matter to nobody.
const SMALL_SECS: f64 = 1.0;
/// Seconds that verifiers do not forgive: some allow for a few minutes.
const LARGE_SECS: f64 = 120.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, stratum: u8, since_1900: u64) -> Vec<u8> {
        let mut packet = vec![0; PACKET_OCTETS];
        (packet[0], packet[1]) = (first, stratum);
        let time = (since_1900 << 32) | (1 << 31);
        packet[32..40].copy_from_slice(&time.to_be_bytes());
        packet[40..48].copy_from_slice(&time.to_be_bytes());
        packet
    }

    #[test]
    fn only_a_server_that_knows_the_time_tells_it() {
        let good = packet(0x24, 2, SECONDS_1900_TO_1970 + 1_790_000_000);
        let is_near = |found: f64, want: f64| (found - want).abs() < 0.001;
        let (received, replied) = times(&good).unwrap();
        assert!(is_near(received, 1_790_000_000.5) && is_near(replied, received), "{received}");
        // Behind the turn of the era.
        let (received, _) = times(&packet(0x24, 2, 7)).unwrap();
        assert!(is_near(received, 2_085_978_503.5), "{received}");
        for bad in [
            packet(0xe4, 2, SECONDS_1900_TO_1970 + 1),
            packet(0x24, 0, SECONDS_1900_TO_1970 + 1),
            packet(0x24, 16, SECONDS_1900_TO_1970 + 1),
            packet(0x23, 2, SECONDS_1900_TO_1970 + 1),
            good[..47].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(times(&bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_hour_is_noticed() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answer = async {
            let mut question = [0; PACKET_OCTETS];
            let (_, client) = server.recv_from(&mut question).await.unwrap();
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let later = packet(0x24, 2, SECONDS_1900_TO_1970 + now + 3_600);
            server.send_to(&later, client).await.unwrap();
        };
        let (offset, ()) = tokio::join!(offset(address), answer);
        let offset = offset.unwrap();
        assert!((3_598.0..3_602.0).contains(&offset), "{offset}");
        for (offset, want) in [
            (Ok(offset), Grade::Bad),
            (Ok(-5.0), Grade::Warning),
            (Ok(0.01), Grade::Good),
            (Err(String::new()), Grade::Unknown),
        ] {
            assert_eq!(judge(String::new(), &offset).grade, want, "{offset:?}");
        }
    }
}
