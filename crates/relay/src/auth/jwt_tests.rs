//! Tokens that are good, and every way in which they are not.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::auth::jwk;

/// The keys of an issuer.
pub(in crate::auth) struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

pub(in crate::auth) static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);
static STRANGER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

/// When the tokens of the tests are shown.
const NOW: u64 = 1_700_000_000;

fn encode(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

fn pem(key: &PublicKeyX509Der<'_>) -> String {
    let text = STANDARD.encode(key.as_ref());
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN PUBLIC KEY-----\n{}-----END PUBLIC KEY-----\n", lines.collect::<String>())
}

impl Issuer {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The public keys as PEM.
    pub(in crate::auth) fn pem(&self) -> String {
        let keys = [
            self.rsa.public_key().as_der().unwrap(),
            self.ec.public_key().as_der().unwrap(),
            self.ed.public_key().as_der().unwrap(),
        ];
        keys.iter().map(pem).collect()
    }

    /// The public keys as a JWK set, in the company of keys that are of no use to us.
    fn jwks(&self) -> String {
        // SEQUENCE { INTEGER n, INTEGER e }, n with a zero in front.
        let rsa = self.rsa.public_key().as_ref();
        let point = self.ec.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"keys": [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"},
            {"kty": "RSA", "kid": "rsa", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": encode(&rsa[9..265]), "e": "AQAB"},
            {"kty": "EC", "kid": "ec", "alg": "ES256", "crv": "P-256",
             "x": encode(x), "y": encode(y)},
            {"kty": "EC", "kid": "ec", "crv": "P-521", "x": "AAAA", "y": "AAAA"},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encode(self.ed.public_key())},
        ]})
        .to_string()
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        match algorithm {
            Algorithm::EdDsa => self.ed.sign(message).as_ref().to_vec(),
            Algorithm::Es256 => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::Ps256 => {
                self.rsa.sign(&RSA_PSS_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Algorithm::Rs256 => {
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with this header.
    fn token_with(&self, header: &Value, claims: &Value, algorithm: Algorithm) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// An honest token.
    pub(in crate::auth) fn token(&self, claims: &Value, algorithm: Algorithm) -> String {
        self.token_with(&json!({"alg": algorithm.name(), "typ": "JWT"}), claims, algorithm)
    }
}

/// Claims that are good.
fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": "merpati", "exp": NOW + 300, "nbf": NOW - 300,
        "sub": "42", "email": "ani@shop.example", "email_verified": true,
    })
}

/// The same with one of them changed, or taken away by `null`.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let map = claims.as_object_mut().unwrap();
    if value.is_null() {
        map.remove(name);
    } else {
        map.insert(name.to_owned(), value);
    }
    claims
}

#[track_caller]
fn verify(token: &str, algorithms: &[Algorithm]) -> Result<String, Refusal> {
    let keys = jwk::parse(ISSUER.pem().as_bytes()).unwrap();
    let audience = ["relay".to_owned(), "merpati".to_owned()];
    let wanted = Wanted {
        issuer: "https://id.example",
        audience: &audience,
        algorithms,
        user_claim: "email",
    };
    Token::parse(token)?.verify(&wanted, &keys, NOW)
}

#[test]
fn a_token_of_the_issuer_is_good_by_whatever_it_may_sign_with() {
    let (pem, jwks) = (ISSUER.pem(), ISSUER.jwks());
    let audience = ["merpati".to_owned()];
    let wanted = Wanted {
        issuer: "https://id.example",
        audience: &audience,
        algorithms: &Algorithm::ALL,
        user_claim: "email",
    };
    for text in [&pem, &jwks] {
        let keys = jwk::parse(text.as_bytes()).unwrap();
        for (algorithm, kid) in [
            (Algorithm::EdDsa, "ed"),
            (Algorithm::Es256, "ec"),
            (Algorithm::Ps256, "rsa"),
            (Algorithm::Rs256, "rsa"),
        ] {
            let good = Ok("ani@shop.example".to_owned());
            let token = ISSUER.token(&claims(), algorithm);
            assert_eq!(Token::parse(&token).unwrap().verify(&wanted, &keys, NOW), good);
            let header = json!({"alg": algorithm.name(), "kid": kid});
            let token = ISSUER.token_with(&header, &claims(), algorithm);
            assert_eq!(Token::parse(&token).unwrap().verify(&wanted, &keys, NOW), good, "{kid}");
        }
    }
    let keys = jwk::parse(jwks.as_bytes()).unwrap();
    let header = json!({"alg": "RS256", "kid": "another"});
    let token = ISSUER.token_with(&header, &claims(), Algorithm::Rs256);
    let verified = Token::parse(&token).unwrap().verify(&wanted, &keys, NOW);
    assert_eq!(verified, Err(Refusal::Signature));
}

#[test]
fn nothing_but_the_signature_that_the_operator_wants_is_believed() {
    use Algorithm::{Es256, Ps256, Rs256};
    let signed =
        |header: &Value| format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
    let none = json!({"alg": "none"});
    for token in [format!("{}.", signed(&none)), ISSUER.token_with(&none, &claims(), Rs256)] {
        assert_eq!(verify(&token, &Algorithm::ALL), Err(Refusal::Algorithm));
    }
    for spelling in ["None", "NONE", "nOnE", "", "rs256", "RS512", "ES256K"] {
        let token = format!("{}.", signed(&json!({"alg": spelling})));
        assert_eq!(verify(&token, &Algorithm::ALL), Err(Refusal::Algorithm), "{spelling}");
    }
    // The public key, which everybody knows, as the secret of HMAC.
    let rsa: PublicKeyX509Der<'_> = ISSUER.rsa.public_key().as_der().unwrap();
    for secret in [ISSUER.pem().into_bytes(), pem(&rsa).into_bytes(), rsa.as_ref().to_vec()] {
        for name in ["HS256", "RS256"] {
            let signed = signed(&json!({"alg": name}));
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let token = format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes())));
            let refusal = verify(&token, &Algorithm::ALL).unwrap_err();
            let want = if name == "HS256" { Refusal::Algorithm } else { Refusal::Signature };
            assert_eq!(refusal, want);
        }
    }
    // Each algorithm under the name of another, by the right keys.
    for (named, used) in [(Rs256, Ps256), (Ps256, Rs256), (Rs256, Es256), (Es256, Rs256)] {
        let token = ISSUER.token_with(&json!({"alg": named.name()}), &claims(), used);
        assert_eq!(verify(&token, &Algorithm::ALL), Err(Refusal::Signature), "{named:?} {used:?}");
    }
    let token = ISSUER.token(&claims(), Es256);
    assert_eq!(verify(&token, &[Rs256]), Err(Refusal::Algorithm), "not wanted");
    assert_eq!(verify(&STRANGER.token(&claims(), Es256), &[Es256]), Err(Refusal::Signature));
    let critical = json!({"alg": "ES256", "crit": ["exp"]});
    let token = ISSUER.token_with(&critical, &claims(), Es256);
    assert_eq!(verify(&token, &[Es256]), Err(Refusal::Critical));
}

#[test]
fn a_token_that_was_changed_anywhere_is_not_believed() {
    let token = ISSUER.token(&claims(), Algorithm::EdDsa);
    assert!(verify(&token, &Algorithm::ALL).is_ok());
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verify(&changed, &Algorithm::ALL).is_err(), "{at}");
    }
    for junk in ["", ".", "..", "a.b", "a.b.c", "e30.e30.", "e30.e30.e30.e30", &token[1..]] {
        assert_eq!(verify(junk, &Algorithm::ALL), Err(Refusal::Malformed), "{junk}");
    }
}

#[test]
fn a_token_is_good_for_us_now_and_for_a_verified_user() {
    for (changed, want) in [
        (but("iss", json!("https://id.example/")), Refusal::Issuer),
        (but("iss", json!(["https://id.example"])), Refusal::Issuer),
        (but("iss", Value::Null), Refusal::Issuer),
        (but("aud", json!("other")), Refusal::Audience),
        (but("aud", json!(["other", "merpatis"])), Refusal::Audience),
        (but("aud", json!([])), Refusal::Audience),
        (but("aud", Value::Null), Refusal::Audience),
        (but("exp", Value::Null), Refusal::Endless),
        (but("exp", json!(NOW - 60)), Refusal::Expired),
        (but("exp", json!(0)), Refusal::Expired),
        (but("exp", json!("1700000300")), Refusal::Malformed),
        (but("exp", json!(-1)), Refusal::Malformed),
        (but("nbf", json!(NOW + 61)), Refusal::NotYet),
        (but("nbf", json!(true)), Refusal::Malformed),
        (but("email", Value::Null), Refusal::User),
        (but("email", json!("")), Refusal::User),
        (but("email", json!(["ani@shop.example"])), Refusal::User),
        (but("email_verified", json!(false)), Refusal::User),
        (but("email_verified", json!("true")), Refusal::User),
    ] {
        let token = ISSUER.token(&changed, Algorithm::EdDsa);
        assert_eq!(verify(&token, &Algorithm::ALL), Err(want), "{changed}");
    }
    for changed in [
        but("aud", json!(["other", "merpati"])),
        but("exp", json!(NOW - 59)),
        but("exp", json!(17_000_003_000.5)),
        but("exp", json!(1e300)),
        but("nbf", json!(NOW + 60)),
        but("nbf", Value::Null),
        but("email_verified", Value::Null),
    ] {
        let token = ISSUER.token(&changed, Algorithm::EdDsa);
        assert!(verify(&token, &Algorithm::ALL).is_ok(), "{changed}");
    }
}

#[test]
fn a_file_without_a_key_for_us_is_refused() {
    for text in [
        "",
        "{}",
        "{\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"!\",\"e\":\"AQAB\"}]}",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "secret",
    ] {
        assert!(jwk::parse(text.as_bytes()).is_err(), "{text}");
    }
}
