//! Who has connected: the client itself, or one for whom a listed proxy speaks.
//!
//! Invariant: nothing behind the header of a proxy is read here, so TLS may follow it; a proxy that
//! does not say for whom it speaks is not served. Not pure: sockets.

use std::{net::SocketAddr, time::Duration};

use merpati_smtp::proxy::{self, Client};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{error::Elapsed, timeout},
};

/// The client for whom the proxy at `peer` speaks; `Err` says why it is not served.
pub(super) async fn client_of_proxy(
    socket: &mut TcpStream,
    peer: SocketAddr,
) -> Result<SocketAddr, String> {
    match timeout(HEADER_WAIT, read(socket)).await {
        Ok(Ok(Client::At(client))) => Ok(client),
        Ok(Ok(Client::Itself)) => Ok(peer),
        Ok(Err(why)) => Err(why),
        Err(Elapsed { .. }) => Err("the PROXY header did not come in time".to_owned()),
    }
}

async fn read(socket: &mut TcpStream) -> Result<Client, String> {
    let mut reader = proxy::Reader::default();
    let mut octets = [0; PIECE_OCTETS];
    loop {
        // Only looked at: what the header does not take belongs to those who come after.
        let there = socket.peek(&mut octets).await.map_err(|error| error.to_string())?;
        if there == 0 {
            return Err("the connection ended in the PROXY header".to_owned());
        }
        let piece = octets.get(..there).unwrap_or_default();
        let taken = reader.take(piece).map_err(|fault| fault.text().to_owned())?;
        let piece = octets.get_mut(..taken.octets).unwrap_or_default();
        socket.read_exact(piece).await.map_err(|error| error.to_string())?;
        if let Some(client) = taken.client {
            return Ok(client);
        }
    }
}

/// How long a proxy may take. Its specification wants a header sent at once, and asks for more than
/// 3 seconds here, so that one lost packet does no harm.
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// How much of a header is looked at at once; few are longer.
const PIECE_OCTETS: usize = 256;
