//! A host that takes mail over STARTTLS, honest or not.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rcgen::KeyPair;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How a host speaks TLS.
pub struct Script {
    /// What it shows.
    pub chain: Vec<CertificateDer<'static>>,
    /// With what it signs; not always the key of what it shows.
    pub key: KeyPair,
    /// Which versions it speaks.
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// Whether it offers STARTTLS.
    pub offers: bool,
}

impl Script {
    /// An honest host with this certificate and key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Self {
        Self { chain, key, versions: rustls::ALL_VERSIONS, offers: true }
    }
}

/// A running host; it ends with this value.
pub struct SecureHost {
    at: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    script: Script,
    config: Arc<ServerConfig>,
    /// For each message, whether it came over TLS.
    mails: Mutex<Vec<bool>>,
    is_over: AtomicBool,
}

/// Shows one certificate to all, and signs with a key that nobody compares with it.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl SecureHost {
    pub fn start(at: SocketAddr, script: Script) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(script.key.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = Shown(Arc::new(CertifiedKey::new(script.chain.clone(), key)));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(script.versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        let shared = Arc::new(Shared {
            script,
            config: Arc::new(config),
            mails: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serving.serve(&listener));
        Self { at, shared, thread: Some(thread) }
    }

    /// For each message that came, whether it came over TLS.
    pub fn mails(&self) -> Vec<bool> {
        self.shared.mails.lock().unwrap().clone()
    }
}

impl Drop for SecureHost {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(self.at).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        std::thread::scope(|scope| {
            while let Ok((stream, _)) = listener.accept() {
                if self.is_over.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
                scope.spawn(move || self.meet(stream));
            }
        });
    }

    /// A client that goes away is none of our business.
    fn meet(&self, stream: TcpStream) {
        let mut clear = BufReader::new(stream);
        if clear.get_mut().write_all(b"220 host ESMTP\r\n").is_err()
            || !self.talk(&mut clear, false)
        {
            return;
        }
        let Ok(connection) = ServerConnection::new(Arc::clone(&self.config)) else { return };
        let mut protected = BufReader::new(StreamOwned::new(connection, clear.into_inner()));
        self.talk(&mut protected, true);
    }

    /// Talks until the end; true where TLS is to begin.
    fn talk<S: Read + Write>(&self, stream: &mut BufReader<S>, is_protected: bool) -> bool {
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
            let verb = line.get(..4).unwrap_or_default().to_uppercase();
            let offers = self.script.offers && !is_protected;
            let reply: &[u8] = match verb.as_str() {
                "EHLO" if offers => b"250-host\r\n250 STARTTLS\r\n",
                "EHLO" if is_protected => b"250-host\r\n250 REQUIRETLS\r\n",
                "STAR" if offers => b"220 go\r\n",
                "DATA" => b"354 go\r\n",
                "QUIT" => b"221 bye\r\n",
                _ => b"250 ok\r\n",
            };
            if stream.get_mut().write_all(reply).is_err() || verb == "QUIT" {
                return false;
            }
            if verb == "STAR" && offers {
                return true;
            }
            if verb == "DATA" {
                if !read_content(stream) {
                    return false;
                }
                self.mails.lock().unwrap().push(is_protected);
                if stream.get_mut().write_all(b"250 taken\r\n").is_err() {
                    return false;
                }
            }
            line.clear();
        }
        false
    }
}

/// Reads up to the final dot; false where the client goes away before.
fn read_content(stream: &mut impl BufRead) -> bool {
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line == ".\r\n" {
            return true;
        }
        line.clear();
    }
    false
}
