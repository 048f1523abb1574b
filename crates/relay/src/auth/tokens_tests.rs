//! Keys in files, which change and vanish.

use serde_json::json;

use super::*;
use crate::auth::jwt::{Algorithm, tests::ISSUER};

fn entry(name: &str, audience: &str, keys: &Path) -> TokenIssuer {
    TokenIssuer {
        name: Name::parse(name).unwrap(),
        issuer: "https://id.example".to_owned(),
        audience: vec![audience.to_owned()],
        keys: keys.to_owned(),
        algorithms: Algorithm::ALL.to_vec(),
        user_claim: "sub".to_owned(),
        domains: Vec::new(),
    }
}

fn token(audience: &str) -> String {
    let end = clock::wall().as_secs() + 600;
    let claims = json!({"iss": "https://id.example", "aud": audience, "sub": "ani", "exp": end});
    ISSUER.token(&claims, Algorithm::EdDsa)
}

#[test]
fn keys_are_read_again_when_the_file_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.pem");
    let tokens = Tokens::new(&[entry("id", "merpati", &path)]);
    let check = || tokens.check(&token("merpati")).map(|bearer| bearer.user);
    assert_eq!(check(), Err(Refused::Unavailable), "there is no file");
    fs::write(&path, ISSUER.pem()).unwrap();
    assert_eq!(check(), Ok("ani".to_owned()));
    assert_eq!(check(), Ok("ani".to_owned()));
    fs::write(&path, "half a fi").unwrap();
    assert_eq!(check(), Err(Refused::Unavailable), "it is being written");
    let other = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";
    fs::write(&path, other).unwrap();
    assert_eq!(check(), Err(Refused::Denied), "the keys were changed");
    fs::remove_file(&path).unwrap();
    assert_eq!(check(), Err(Refused::Unavailable), "it is gone");
}

#[test]
fn one_issuer_may_stand_there_for_several_audiences() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.pem");
    fs::write(&path, ISSUER.pem()).unwrap();
    let tokens = Tokens::new(&[entry("one", "first", &path), entry("two", "second", &path)]);
    let by = |audience: &str| tokens.check(&token(audience)).map(|bearer| bearer.issuer);
    assert_eq!(by("first"), Ok(Name::parse("one").unwrap()));
    assert_eq!(by("second"), Ok(Name::parse("two").unwrap()));
    assert_eq!(by("third"), Err(Refused::Denied));
    assert_eq!(tokens.check("junk"), Err(Refused::Denied));
}
