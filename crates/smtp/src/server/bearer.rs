//! What a client says that comes with a token (RFC 7628 OAUTHBEARER; XOAUTH2 de facto).
//!
//! Invariant: a token is handed on as it came, and nothing of it is shown. Pure.

use merpati_mail::{precis, question::Claim};

use super::scram;

/// Which of the two ways to bring a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `n,a=user,^Ahost=…^Aauth=Bearer token^A^A`.
    Oauthbearer,
    /// `user=user^Aauth=Bearer token^A^A`.
    Xoauth2,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// It brings no token, which is how a client asks what we want (RFC 7628 §4.3), or names a user
    /// who cannot be.
    Denied,
    /// It is not a message of the mechanism.
    Malformed,
}

/// Reads the one message of the client.
pub(super) fn parse(message: &str, dialect: Dialect) -> Result<Claim, Breach> {
    let (header, pairs) = message.split_once(SEPARATOR).ok_or(Breach::Malformed)?;
    let user = match dialect {
        Dialect::Oauthbearer => {
            // RFC 7628 §3.1: `n` or `y`; there is no channel binding.
            let user = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"));
            let user = user.and_then(|user| user.strip_suffix(',')).ok_or(Breach::Malformed)?;
            match user {
                "" => None,
                named => {
                    let name = named.strip_prefix("a=").and_then(scram::unescaped);
                    Some(name.ok_or(Breach::Malformed)?)
                }
            }
        }
        Dialect::Xoauth2 => Some(header.strip_prefix("user=").ok_or(Breach::Malformed)?.to_owned()),
    };
    // Every pair ends with the separator, and so does the whole.
    let pairs = match pairs.strip_suffix(SEPARATOR) {
        Some("") => "",
        Some(pairs) => pairs.strip_suffix(SEPARATOR).ok_or(Breach::Malformed)?,
        None => return Err(Breach::Malformed),
    };
    let mut authorization = None;
    for pair in pairs.split(SEPARATOR).filter(|_| !pairs.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(Breach::Malformed)?;
        if key.eq_ignore_ascii_case("auth") && authorization.replace(value).is_some() {
            return Err(Breach::Malformed);
        }
    }
    let (scheme, token) = authorization.and_then(|a| a.split_once(' ')).ok_or(Breach::Denied)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("Bearer") || token.is_empty() {
        return Err(Breach::Denied);
    }
    let user = user.map(|user| precis::opaque(&user).map(String::from).ok_or(Breach::Denied));
    Ok(Claim::Token { user: user.transpose()?, token: token.to_owned() })
}

/// What a client is told whose token is no good (RFC 7628 §3.2.2), in base64; it answers with
/// nothing of importance, and only then comes the reply.
pub(super) const fn refusal(dialect: Dialect) -> &'static str {
    match dialect {
        // {"status":"invalid_token"}
        Dialect::Oauthbearer => "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=",
        // {"status":"401","schemes":"bearer"}: what the libraries of the inventor look for.
        Dialect::Xoauth2 => "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=",
    }
}

const SEPARATOR: char = '\x01';

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[track_caller]
    fn check(dialect: Dialect, message: &str, want: Result<(Option<&str>, &str), Breach>) {
        let want = want.map(|(user, token)| Claim::Token {
            user: user.map(str::to_owned),
            token: token.to_owned(),
        });
        assert_eq!(parse(&message.replace('^', "\x01"), dialect), want, "{message}");
    }

    #[test]
    fn a_token_is_found_where_it_belongs() {
        use Dialect::{Oauthbearer, Xoauth2};
        let good = Ok((Some("ani@a.example"), "e.y.J"));
        check(Xoauth2, "user=ani@a.example^auth=Bearer e.y.J^^", good);
        check(Xoauth2, "user=ani@a.example^auth=bearer  e.y.J^^", good);
        check(Oauthbearer, "n,a=ani@a.example,^auth=Bearer e.y.J^^", good);
        let pairs = "host=mx.example^port=587^auth=Bearer e.y.J^^";
        check(Oauthbearer, &format!("n,a=ani@a.example,^{pairs}"), good);
        check(Oauthbearer, "n,,^auth=Bearer e.y.J^^", Ok((None, "e.y.J")));
        check(Oauthbearer, "n,a=a=2Cb=3Dc,^auth=Bearer x^^", Ok((Some("a,b=c"), "x")));
    }

    #[test]
    fn what_brings_no_token_is_denied_and_what_is_no_message_malformed() {
        use Dialect::{Oauthbearer, Xoauth2};
        for message in ["n,,^^", "n,,^auth=^^", "n,,^auth=Basic x^^", "n,,^auth=Bearer ^^"] {
            check(Oauthbearer, message, Err(Breach::Denied));
        }
        check(Xoauth2, "user=^auth=Bearer x^^", Err(Breach::Denied));
        for message in [
            "",
            "^",
            "n,,",
            "n,,^",
            "n,,^auth=Bearer x",
            "n,,^auth=Bearer x^",
            "n^auth=Bearer x^^",
            "p=tls-exporter,,^auth=Bearer x^^",
            "n,ani,^auth=Bearer x^^",
            "n,a=a=b,^auth=Bearer x^^",
            "n,,^auth^^",
            "n,,^auth=Bearer x^auth=Bearer y^^",
            "user=ani^auth=Bearer x^^",
        ] {
            check(Oauthbearer, message, Err(Breach::Malformed));
        }
        check(Xoauth2, "n,a=ani,^auth=Bearer x^^", Err(Breach::Malformed));
    }

    #[test]
    fn the_refusals_are_what_they_are_said_to_be() {
        for (dialect, json) in [
            (Dialect::Oauthbearer, r#"{"status":"invalid_token"}"#),
            (Dialect::Xoauth2, r#"{"status":"401","schemes":"bearer"}"#),
        ] {
            assert_eq!(refusal(dialect), STANDARD.encode(json));
        }
    }
}
