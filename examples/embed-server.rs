//! A mail server in sixty lines: `merpati_smtp::server` over blocking sockets, one thread for each
//! client. It takes mail for anybody, prints how large it is, and forgets it.
//!
//! `cargo run -p merpati-smtp --example embed-server -- 127.0.0.1:2525`
#![allow(clippy::print_stdout, reason = "it tells what came")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a shell, with sockets")]

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use merpati_mail::{QueueId, Time, Verdict, question::CredentialAnswer};
use merpati_smtp::server::{Input, Options, Output, Session};

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2525".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let options = Arc::new(Options::new("example", "localhost"));
    for client in listener.incoming() {
        let (client, options) = (client?, Arc::clone(&options));
        std::thread::spawn(move || serve(client, options));
    }
    Ok(())
}

fn serve(mut client: TcpStream, options: Arc<Options>) -> Result<()> {
    let mut session = Session::new(now(), options, client.peer_addr()?, None);
    let (mut buffer, mut size, mut count) = (Vec::new(), 0, 0);
    loop {
        let consumed = session.handle(now(), Input::Octets(&buffer));
        let mut is_idle = consumed == 0;
        while let Some(output) = session.poll() {
            let answer = match output {
                Output::Ask(_) => Input::Verdict(Verdict::accept("example")),
                // A real server stores `buffer[range]` here, and makes it durable at `BodyEnd`.
                Output::Body(range) => {
                    size += range.len();
                    continue;
                }
                Output::BodyDropped => {
                    size = 0;
                    continue;
                }
                Output::BodyEnd(envelope) => {
                    count += 1;
                    let recipients = envelope.recipients.len();
                    println!("{size} octets for {recipients} from {}", envelope.reverse_path);
                    size = 0;
                    Input::Committed(QueueId::from_bits(count))
                }
                Output::Close => return Ok(()),
                Output::Question(_) => Input::Credential(CredentialAnswer::Unavailable),
                Output::Send(octets) => {
                    client.write_all(&octets)?;
                    continue;
                }
                // Not offered by these options.
                Output::StartTls => Input::Closed,
            };
            session.handle(now(), answer);
            is_idle = false;
        }
        buffer.drain(..consumed);
        if is_idle || buffer.is_empty() {
            wait(&mut client, &mut session, &mut buffer)?;
        }
    }
}

/// Reads what comes next, for as long as the session wants to wait for it.
fn wait(client: &mut TcpStream, session: &mut Session, buffer: &mut Vec<u8>) -> Result<()> {
    let patience = session.deadline().map(|deadline| deadline.since(now()));
    client.set_read_timeout(patience.map(|wait| wait.max(std::time::Duration::from_millis(1))))?;
    let mut piece = [0; 16_384];
    match client.read(&mut piece) {
        Ok(0) => session.handle(now(), Input::Closed),
        Ok(octets) => {
            buffer.extend(piece.iter().take(octets));
            0
        }
        Err(_) => session.handle(now(), Input::Timeout),
    };
    Ok(())
}

fn now() -> Time {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
