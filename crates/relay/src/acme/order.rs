//! One order: the names are proven to the CA, and a certificate comes back.
//!
//! Invariant: what was published for the proof is withdrawn, however the order ends. Not pure:
//! asks the CA, and runs the operator's program.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType,
    Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use merpati_mail::Domain;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use super::{
    challenges::{Challenges, Shown},
    hook::Hook,
};
use crate::{config::acme::ChallengeUse, tls};

/// How the CA is shown that names are ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prover<'a> {
    /// By which kind of challenge.
    pub(super) by: ChallengeUse,
    /// What is shown over HTTP and in TLS.
    pub(super) challenges: &'a Arc<Challenges>,
    /// What is shown in the DNS.
    pub(super) hook: Hook<'a>,
}

/// What is shown during one order.
#[derive(Default)]
struct Proofs {
    shown: Vec<Shown>,
    /// TXT records: name and text.
    records: Vec<(String, String)>,
}

/// Orders a certificate for these names and this key, in the place of another one where there was
/// one; gives it as PEM, with those that lead to its root.
pub(super) async fn order(
    account: &Account,
    (names, key): (&[Domain], &KeyPair),
    replaces: Option<CertificateIdentifier<'static>>,
    prover: Prover<'_>,
) -> anyhow::Result<String> {
    let identifiers: Vec<Identifier> = names.iter().map(identifier).collect();
    let mut order = begin(account, &identifiers, replaces).await?;
    let mut proofs = Proofs::default();
    let result = prover.prove(&mut order, &mut proofs).await;
    for (name, text) in &proofs.records {
        if let Err(why) = prover.hook.run("remove", name, text).await {
            tracing::warn!("the record of a challenge stays: {why:#}");
        }
    }
    drop(proofs);
    result?;
    let mut params = CertificateParams::default();
    for name in names {
        params.subject_alt_names.push(match name {
            Domain::Literal(address) => rcgen::SanType::IpAddress(*address),
            Domain::Name(name) => rcgen::SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key).context("cannot make the request")?;
    order.finalize_csr(request.der()).await.context("the CA takes no request")?;
    order.poll_certificate(&patience()).await.context("the CA gives no certificate")
}

/// Begins an order. That it replaces another one is worth no failure: a CA may have forgotten it.
async fn begin(
    account: &Account,
    identifiers: &[Identifier],
    replaces: Option<CertificateIdentifier<'static>>,
) -> anyhow::Result<Order> {
    if let Some(replaces) = replaces {
        match account.new_order(&NewOrder::new(identifiers).replaces(replaces)).await {
            Ok(order) => return Ok(order),
            Err(why) => tracing::debug!("the CA takes no order in the place of another: {why}"),
        }
    }
    account.new_order(&NewOrder::new(identifiers)).await.context("the CA takes no order")
}

impl Prover<'_> {
    async fn prove(self, order: &mut Order, proofs: &mut Proofs) -> anyhow::Result<()> {
        let mut all = order.authorizations();
        while let Some(one) = all.next().await {
            let mut one = one.context("the CA does not say what it wants to see")?;
            if one.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = one.challenge(self.kind());
            let mut challenge =
                challenge.with_context(|| format!("the CA offers no {}", self.by.word()))?;
            self.show(&challenge, proofs).await?;
            challenge.set_ready().await.context("the CA does not look")?;
        }
        let status = order.poll_ready(&patience()).await.context("the CA does not decide")?;
        if matches!(status, OrderStatus::Ready | OrderStatus::Valid) {
            return Ok(());
        }
        bail!("the CA did not see what it looked for: {}", reasons(order).await)
    }

    const fn kind(self) -> ChallengeType {
        match self.by {
            ChallengeUse::Dns01 => ChallengeType::Dns01,
            ChallengeUse::Http01 => ChallengeType::Http01,
            ChallengeUse::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }

    async fn show(self, of: &ChallengeHandle<'_>, proofs: &mut Proofs) -> anyhow::Result<()> {
        let authorization = of.key_authorization();
        let identifier = of.identifier().to_string();
        match self.by {
            ChallengeUse::Dns01 => {
                let record = (format!("_acme-challenge.{identifier}"), authorization.dns_value());
                // Also what failed halfway is withdrawn.
                proofs.records.push(record.clone());
                self.hook.run("add", &record.0, &record.1).await?;
            }
            ChallengeUse::Http01 => {
                let text = authorization.as_str().to_owned();
                proofs.shown.push(self.challenges.show_text(&of.token, text));
            }
            ChallengeUse::TlsAlpn01 => {
                let certificate = certificate(&identifier, authorization.digest().as_ref())?;
                proofs.shown.push(self.challenges.show_certificate(&identifier, certificate));
            }
        }
        Ok(())
    }
}

/// The certificate that shows a CA that the name is ours (RFC 8737 §3).
fn certificate(name: &str, digest: &[u8]) -> anyhow::Result<CertifiedKey> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let made = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let key = tls::provider().key_provider.load_private_key(key)?;
    // Not compared with the certificate: the library reads none with this extension.
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

/// What the CA says of the challenges that failed.
async fn reasons(order: &mut Order) -> String {
    let mut said = Vec::new();
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let Ok(mut one) = one else { continue };
        let Ok(state) = one.refresh().await else { continue };
        let name = state.identifier().to_string();
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        said.extend(errors.map(|error| format!("{name}: {error}")));
    }
    if said.is_empty() { "it does not say why".to_owned() } else { said.join("; ") }
}

fn identifier(name: &Domain) -> Identifier {
    match name {
        Domain::Literal(address) => Identifier::Ip(*address),
        Domain::Name(name) => Identifier::Dns(name.as_str().to_owned()),
    }
}

const fn patience() -> RetryPolicy {
    RetryPolicy::new().initial_delay(FIRST_LOOK).timeout(DECISION_WAIT)
}

/// How long after a challenge is ready the CA is asked for the first time.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// How long a CA may take to decide.
const DECISION_WAIT: Duration = Duration::from_mins(3);
