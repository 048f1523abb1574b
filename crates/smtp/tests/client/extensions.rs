//! What the peer offers decides what is asked of it.

use super::*;

#[test]
fn what_the_peer_lacks_is_known_before_mail() {
    let plain = transaction("a@us.example", &["b@x.example", "β@x.example"]);
    let ascii = transaction("a@us.example", &["b@x.example"]);
    let eight = Transaction { eight_bit: EightBit::Present, ..ascii.clone() };
    let flagged = Transaction { utf8: Utf8::Declared, ..ascii.clone() };
    let header = Transaction { header: EightBit::Present, ..flagged.clone() };
    let refuse = Options { eight_bit: EightBitPolicy::Refuse, ..options() };
    let mail = "I: start\nC: MAIL FROM:<a@us.example>";
    let lacks = |need| format!("I: start\nE: results Fresh\nR: 0 not Mail lacks {need}\nE: ready");
    for (options, transaction, extensions, script) in [
        (options(), &ascii, "SIZE 999", lacks("Size")),
        (options(), &ascii, "SIZE 1000", format!("{mail} SIZE=1000")),
        (options(), &eight, "8BITMIME", format!("{mail} BODY=8BITMIME")),
        (options(), &eight, "", mail.to_owned()),
        (refuse, &eight, "", lacks("EightBitMime")),
        (options(), &flagged, "", mail.to_owned()),
        (options(), &flagged, "SMTPUTF8", format!("{mail} SMTPUTF8")),
        (options(), &header, "", lacks("Smtputf8")),
        (options(), &header, "SMTPUTF8", format!("{mail} SMTPUTF8")),
        (options(), &plain, "SMTPUTF8", format!("{mail} SMTPUTF8")),
        (
            options(),
            &plain,
            "",
            format!(
                "{mail}\nS: 250 ok\nC: RCPT TO:<b@x.example>\nS: 550 no\nE: results Fresh\n\
                 R: 0 not Recipient replied 550 no\nR: 1 not Recipient lacks Smtputf8\nC: RSET"
            ),
        ),
    ] {
        let script = behind_hello(Dialect::Smtp, extensions, &script);
        check_with(options, transaction.clone(), &script);
    }
}

#[test]
fn dsn_parameters_are_passed_on_only_where_dsn_is_offered() {
    let mut dsn = transaction("", &["b@x.example"]);
    dsn.ret = Some(Ret::Headers);
    dsn.envid = Some("id+2B1".into());
    dsn.recipients[0].1.notify = Some(Notify::On { delay: true, failure: true, success: false });
    dsn.recipients[0].1.orcpt = Some("rfc822;b@x.example".into());
    for (extensions, mail, rcpt) in [
        ("DSN", " RET=HDRS ENVID=id+2B1", " NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@x.example"),
        ("SIZE", " SIZE=1000", ""),
    ] {
        let script =
            format!("I: start\nC: MAIL FROM:<>{mail}\nS: 250 ok\nC: RCPT TO:<b@x.example>{rcpt}");
        check_with(options(), dsn.clone(), &behind_hello(Dialect::Smtp, extensions, &script));
    }
    dsn.envid = Some("x\r\nRSET".into());
    let script = "I: start\nC: MAIL FROM:<> RET=HDRS";
    check_with(options(), dsn, &behind_hello(Dialect::Smtp, "DSN", script));
}

#[test]
fn an_original_recipient_is_added_or_passed_on_as_the_peer_can_take_it() {
    let all = [
        (None, None, "b@x.example", " ORCPT=rfc822;b@x.example", " ORCPT=rfc822;b@x.example"),
        (None, None, "a+b=c@x.example", " ORCPT=rfc822;a+2Bb+3Dc@x.example", ""),
        (Some("rfc822;o+2Bp@y"), None, "b@x.example", " ORCPT=rfc822;o+2Bp@y", ""),
        (None, Some(Notify::Never), "b@x.example", " NOTIFY=NEVER", ""),
        (Some("x;y"), Some(Notify::Never), "b@x.example", " NOTIFY=NEVER ORCPT=x;y", ""),
        (Some("utf-8;δ@y"), None, "b@x.example", " ORCPT=utf-8;\\x{3B4}@y", " ORCPT=utf-8;δ@y"),
        (None, None, "δ@x.example", "", " ORCPT=utf-8;\\x{3B4}@x.example"),
    ];
    for (orcpt, notify, to, plain, utf8) in all {
        let mut dsn = transaction("", &[to]);
        dsn.utf8 = Utf8::Declared;
        dsn.recipients[0].1.notify = notify;
        dsn.recipients[0].1.orcpt = orcpt.map(str::to_owned);
        for (extensions, mail, want) in [("DSN", "", plain), ("DSN,SMTPUTF8", " SMTPUTF8", utf8)] {
            if want.is_empty() {
                continue;
            }
            let script =
                format!("I: start\nC: MAIL FROM:<>{mail}\nS: 250 ok\nC: RCPT TO:<{to}>{want}");
            check_with(options(), dsn.clone(), &behind_hello(Dialect::Smtp, extensions, &script));
        }
    }
}
