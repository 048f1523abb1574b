//! A web server with policies of MTA-STS, and the CA that it and mail hosts have certificates from.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A CA.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    /// One whose certificate is in this file.
    pub fn new(file: &Path) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(file, ca.pem()).unwrap();
        Self(ca)
    }

    /// A certificate for this name that has ended, or has not, and its key.
    pub fn issue(&self, name: &str, has_ended: bool) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if has_ended {
            (params.not_before, params.not_after) =
                (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().der().clone(), key)
    }
}

/// Shows a certificate for whatever name is asked for.
struct ByName(Arc<Ca>);

impl std::fmt::Debug for ByName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (certificate, key) = self.0.issue(hello.server_name()?, false);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap();
        Some(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }
}

/// A running web server; it ends with this value.
pub struct PolicyHost {
    pub at: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    config: Arc<ServerConfig>,
    /// By the name of the host; who has none is answered with 404.
    policies: Mutex<HashMap<String, String>>,
    is_over: AtomicBool,
}

impl PolicyHost {
    pub fn start(ip: Ipv4Addr, ca: &Arc<Ca>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(Arc::clone(ca))));
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            policies: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
                serving.answer(stream);
            }
        });
        Self { at, shared, thread: Some(thread) }
    }

    /// From now on the domain has this policy; `None`: it is not there.
    pub fn set(&self, domain: &str, policy: Option<&str>) {
        let mut policies = self.shared.policies.lock().unwrap();
        let host = format!("mta-sts.{domain}");
        match policy {
            Some(policy) => policies.insert(host, policy.to_owned()),
            None => policies.remove(&host),
        };
    }
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(self.at).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    /// Who goes away is none of our business.
    fn answer(&self, stream: TcpStream) {
        let Ok(connection) = ServerConnection::new(Arc::clone(&self.config)) else { return };
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = Vec::new();
        let mut octet = [0];
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_exact(&mut octet).is_err() {
                return;
            }
            request.extend(octet);
        }
        let request = String::from_utf8_lossy(&request).to_lowercase();
        let host = request.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.unwrap_or_default().split(':').next().unwrap_or_default();
        let policy = self.policies.lock().unwrap().get(host).cloned();
        let (status, body) = match policy {
            Some(policy) => ("200 OK", policy),
            None => ("404 Not Found", String::new()),
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).ok();
        stream.conn.send_close_notify();
        stream.flush().ok();
    }
}
