//! Which parameters Postfix has, what holds where they are not set, and what becomes of those that
//! no other module carries over.
//!
//! Defaults are those of Postfix 3.7. Pure.

/// What becomes of a parameter that was not carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// Another module looks at it; where it had no use for it, it has none here.
    Here,
    /// It is lost, and this says why and what to do.
    Left(&'static str),
    /// The same, and mail is taken, refused or changed otherwise than before.
    Loud(&'static str),
    /// Nothing is lost, for this reason.
    Nothing(&'static str),
}

/// What is known of a parameter.
type Known = (&'static str, &'static str, Otherwise);

/// What holds where it is not set; nothing for what is not known.
pub(super) fn default_of(name: &str) -> &'static str {
    find(name).map_or("", |(_, default, _)| default)
}

/// Whether Postfix has a parameter of this name, as far as is known here.
pub(super) fn knows(name: &str) -> bool {
    find(name).is_some()
}

/// What becomes of it; `None` where nothing is known of it.
pub(super) fn otherwise(name: &str) -> Option<Otherwise> {
    let by_end = || ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, fate)| *fate);
    let by_start = || {
        let starts = STARTS.iter().filter(|(start, _)| name.starts_with(start));
        // `smtp_tls_` says more of a name than `smtp_`.
        starts.max_by_key(|(start, _)| start.len()).map(|(_, fate)| *fate)
    };
    find(name).map(|(_, _, fate)| *fate).or_else(by_end).or_else(by_start)
}

fn find(name: &str) -> Option<&'static Known> {
    [HERE, LOST, NOTHING].into_iter().flatten().find(|(known, _, _)| *known == name)
}

use Otherwise::{Here, Left, Loud, Nothing};

/// Those that other modules look at.
const HERE: &[Known] = &[
    ("alias_database", "", Here),
    ("alias_maps", "", Here),
    ("compatibility_level", "0", Here),
    ("config_directory", "/etc/postfix", Here),
    ("default_destination_concurrency_limit", "20", Here),
    ("default_destination_recipient_limit", "50", Here),
    ("default_transport", "smtp", Here),
    ("delay_warning_time", "0h", Here),
    ("disable_dns_lookups", "no", Here),
    ("disable_vrfy_command", "no", Here),
    ("hopcount_limit", "50", Here),
    ("inet_interfaces", "all", Here),
    ("inet_protocols", "all", Here),
    ("lmtp_destination_concurrency_limit", "$default_destination_concurrency_limit", Here),
    ("lmtp_tcp_port", "24", Here),
    ("local_recipient_maps", "proxy:unix:passwd.byname $alias_maps", Here),
    ("local_transport", "local:$myhostname", Here),
    ("mailbox_transport", "", Here),
    ("maximal_backoff_time", "4000s", Here),
    ("maximal_queue_lifetime", "5d", Here),
    ("message_size_limit", "10240000", Here),
    ("minimal_backoff_time", "300s", Here),
    ("mydestination", "$myhostname, localhost.$mydomain, localhost", Here),
    // Both are found out on the machine; where nobody says, this is what they are.
    ("mydomain", "localdomain", Here),
    ("myhostname", "localhost.localdomain", Here),
    ("mynetworks", "", Here),
    ("mynetworks_style", "${{$compatibility_level} <level {2} ? {subnet} : {host}}", Here),
    (
        "parent_domain_matches_subdomains",
        "debug_peer_list, fast_flush_domains, mynetworks, permit_mx_backup_networks, \
         qmqpd_authorized_clients, relay_domains, smtpd_access_maps",
        Here,
    ),
    ("queue_directory", "/var/spool/postfix", Here),
    ("recipient_delimiter", "", Here),
    ("relay_domains", "${{$compatibility_level} <level {2} ? {$mydestination} : {}}", Here),
    ("relay_recipient_maps", "", Here),
    ("relay_transport", "relay", Here),
    ("relayhost", "", Here),
    ("sender_dependent_relayhost_maps", "", Here),
    ("smtp_bind_address", "", Here),
    ("smtp_bind_address6", "", Here),
    ("smtp_connect_timeout", "30s", Here),
    ("smtp_data_done_timeout", "600s", Here),
    ("smtp_data_init_timeout", "120s", Here),
    ("smtp_data_xfer_timeout", "180s", Here),
    ("smtp_destination_concurrency_limit", "$default_destination_concurrency_limit", Here),
    ("smtp_destination_recipient_limit", "$default_destination_recipient_limit", Here),
    ("smtp_helo_name", "$myhostname", Here),
    ("smtp_mail_timeout", "300s", Here),
    ("smtp_rcpt_timeout", "300s", Here),
    ("smtp_sasl_auth_enable", "no", Here),
    ("smtp_sasl_password_maps", "", Here),
    ("smtp_sender_dependent_authentication", "no", Here),
    ("smtp_tls_CAfile", "", Here),
    ("smtp_tls_policy_maps", "", Here),
    ("smtp_tls_security_level", "", Here),
    ("smtp_tls_wrappermode", "no", Here),
    ("smtp_use_tls", "no", Here),
    ("smtp_enforce_tls", "no", Here),
    ("smtpd_authorized_xclient_hosts", "", Here),
    ("smtpd_banner", "$myhostname ESMTP $mail_name", Here),
    ("smtpd_client_connection_count_limit", "50", Here),
    ("smtpd_client_connection_rate_limit", "0", Here),
    ("smtpd_client_message_rate_limit", "0", Here),
    ("smtpd_client_recipient_rate_limit", "0", Here),
    ("smtpd_client_restrictions", "", Here),
    ("smtpd_data_restrictions", "", Here),
    ("smtpd_end_of_data_restrictions", "", Here),
    ("smtpd_enforce_tls", "no", Here),
    ("smtpd_hard_error_limit", "${stress?{1}:{20}}", Here),
    ("smtpd_helo_restrictions", "", Here),
    ("smtpd_peername_lookup", "yes", Here),
    ("smtpd_recipient_limit", "1000", Here),
    ("smtpd_recipient_restrictions", "", Here),
    ("smtpd_reject_unlisted_recipient", "yes", Here),
    (
        "smtpd_relay_restrictions",
        "${{$compatibility_level} <level {1} ? {} : \
         {permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination}}",
        Here,
    ),
    ("smtpd_restriction_classes", "", Here),
    ("smtpd_sasl_auth_enable", "no", Here),
    ("smtpd_sasl_path", "smtpd", Here),
    ("smtpd_sasl_type", "cyrus", Here),
    ("smtpd_sender_login_maps", "", Here),
    ("smtpd_sender_restrictions", "", Here),
    ("smtpd_timeout", "${stress?{10}:{300}}s", Here),
    ("smtpd_tls_auth_only", "no", Here),
    ("smtpd_tls_cert_file", "", Here),
    ("smtpd_tls_chain_files", "", Here),
    ("smtpd_tls_key_file", "$smtpd_tls_cert_file", Here),
    ("smtpd_tls_security_level", "", Here),
    ("smtpd_tls_wrappermode", "no", Here),
    ("smtpd_upstream_proxy_protocol", "", Here),
    ("smtpd_use_tls", "no", Here),
    ("transport_maps", "", Here),
    ("virtual_alias_domains", "$virtual_alias_maps", Here),
    ("virtual_alias_maps", "$virtual_maps", Here),
    ("virtual_mailbox_domains", "$virtual_mailbox_maps", Here),
    ("virtual_mailbox_maps", "", Here),
    ("virtual_transport", "virtual", Here),
];

/// Those that nothing here stands for.
const LOST: &[Known] = &[
    ("address_verify_map", "btree:$data_directory/verify_cache", Nothing(INSIDE)),
    ("always_add_missing_headers", "no", Left(MENDED)),
    ("always_bcc", "", Loud(COPIES)),
    ("append_at_myorigin", "yes", Nothing(SHORT)),
    ("append_dot_mydomain", "${{$compatibility_level} <level {1} ? {yes} : {no}}", Nothing(SHORT)),
    ("body_checks", "", Loud(CONTENT)),
    ("bounce_queue_lifetime", "5d", Left(BOUNCES)),
    ("bounce_template_file", "", Left("reports have words of their own, which cannot be changed")),
    ("canonical_maps", "", Loud(REWRITTEN)),
    ("content_filter", "", Loud(FILTERED)),
    ("defer_transports", "", Loud("mail is not held back by transport: see `merpati queue hold`")),
    ("error_notice_recipient", "postmaster", Left(NOTICES)),
    ("fallback_relay", "", Loud(FALLBACK)),
    ("fallback_transport", "", Loud("there are no mailboxes on this machine, so none fall back")),
    ("header_checks", "", Loud(CONTENT)),
    ("header_size_limit", "102400", Left("headers have no limit but that of the whole message")),
    ("luser_relay", "", Loud("it is for mydestination, which is not delivered locally here")),
    ("local_header_rewrite_clients", "permit_inet_interfaces", Nothing(SHORT)),
    ("masquerade_domains", "", Loud(REWRITTEN)),
    ("mime_header_checks", "", Loud(CONTENT)),
    ("myorigin", "$myhostname", Left(SHORT_LOST)),
    ("nested_header_checks", "", Loud(CONTENT)),
    ("non_smtpd_milters", "", Loud(MILTERS)),
    ("notify_classes", "resource, software", Left(NOTICES)),
    ("permit_mx_backup_networks", "", Nothing("permit_mx_backup itself was not carried over")),
    ("propagate_unmatched_extensions", "canonical, virtual", Nothing(EXTENSIONS)),
    ("receive_override_options", "", Left("there are no filters whose doubling it would avoid")),
    ("recipient_bcc_maps", "", Loud(COPIES)),
    ("recipient_canonical_maps", "", Loud(REWRITTEN)),
    ("remote_header_rewrite_domain", "", Loud(REWRITTEN)),
    ("relay_clientcerts", "", Loud(CLIENT_CERTIFICATES)),
    ("relocated_maps", "", Left("who has moved is refused as unknown, without the new address")),
    ("rbl_reply_maps", "", Left("who is listed is told so in words of our own")),
    ("sender_bcc_maps", "", Loud(COPIES)),
    ("sender_canonical_maps", "", Loud(REWRITTEN)),
    ("sender_dependent_default_transport_maps", "", Loud(BY_SENDER)),
    ("smtp_body_checks", "", Loud(CONTENT)),
    ("smtp_fallback_relay", "", Loud(FALLBACK)),
    ("smtp_generic_maps", "", Loud(REWRITTEN)),
    ("smtp_header_checks", "", Loud(CONTENT)),
    ("smtp_tls_cert_file", "", Left(SHOWN)),
    ("smtp_tls_key_file", "", Left(SHOWN)),
    ("smtp_tls_secure_cert_match", "nexthop, dot-nexthop", Left(MATCHES)),
    ("smtp_tls_verify_cert_match", "hostname", Left(MATCHES)),
    ("smtpd_discard_ehlo_keywords", "", Left(KEYWORDS)),
    ("smtpd_etrn_restrictions", "", Nothing("ETRN is not there")),
    ("smtpd_milters", "", Loud(MILTERS)),
    ("smtpd_proxy_filter", "", Loud(FILTERED)),
    ("smtpd_reject_unlisted_sender", "no", Left("senders in our own domains are not looked up")),
    (
        "smtpd_relay_before_recipient_restrictions",
        "${{$compatibility_level} <level {3.6} ? {no} : {yes}}",
        Nothing("the order decides nothing here"),
    ),
    ("smtpd_sasl_exceptions_networks", "", Left("AUTH is offered to all clients of a listener")),
    ("smtpd_tls_ask_ccert", "no", Left(CLIENT_CERTIFICATES)),
    ("smtpd_tls_ccert_verifydepth", "9", Nothing("the chain may be as long as the library allows")),
    ("smtpd_tls_dcert_file", "", Left(ONE_CERTIFICATE)),
    ("smtpd_tls_dkey_file", "", Left(ONE_CERTIFICATE)),
    ("smtpd_tls_eccert_file", "", Left(ONE_CERTIFICATE)),
    ("smtpd_tls_eckey_file", "", Left(ONE_CERTIFICATE)),
    ("smtpd_tls_req_ccert", "no", Loud(CLIENT_CERTIFICATES)),
    ("strict_rfc821_envelopes", "no", Nothing("paths are always read as strictly")),
    ("swap_bangpath", "yes", Nothing("a bang is a character like others")),
    ("tls_server_sni_maps", "", Left("write a [[certificate]] for each of its names")),
    ("undisclosed_recipients_header", "", Nothing("no To is added")),
];

/// Those with which nothing is lost.
const NOTHING: &[Known] = &[
    ("2bounce_notice_recipient", "postmaster", Left(NOTICES)),
    ("address_verify_negative_cache", "yes", Nothing("[recipients] keeps answers of its own")),
    ("allow_percent_hack", "yes", Nothing("`%` is a character like others")),
    ("anvil_rate_time_unit", "60s", Left("rates are counted in a minute")),
    ("authorized_submit_users", "static:anyone", Left("there is no sendmail command")),
    ("biff", "yes", Nothing("there are no mailboxes on this machine")),
    ("body_checks_size_limit", "51200", Nothing("there are no body checks")),
    ("bounce_size_limit", "50000", Nothing("reports have a limit of their own")),
    ("broken_sasl_auth_clients", "no", Nothing("old clients are not served by a second AUTH line")),
    ("command_directory", "/usr/sbin", Nothing(INSIDE)),
    ("daemon_directory", "/usr/lib/postfix/sbin", Nothing(INSIDE)),
    ("data_directory", "/var/lib/postfix", Nothing("see server.data_dir")),
    ("default_privs", "nobody", Nothing(INSIDE)),
    ("default_process_limit", "100", Nothing("connections need no processes")),
    ("dont_remove", "0", Nothing(INSIDE)),
    ("duplicate_filter_limit", "1000", Nothing(INSIDE)),
    ("enable_long_queue_ids", "no", Nothing("queue ids are never used twice")),
    ("enable_original_recipient", "yes", Nothing(INSIDE)),
    ("home_mailbox", "", Nothing("there are no mailboxes on this machine")),
    ("html_directory", "no", Nothing(INSIDE)),
    ("in_flow_delay", "1s", Nothing(INSIDE)),
    ("import_environment", "", Nothing(INSIDE)),
    ("mail_name", "Postfix", Nothing("the greeting and Received name Merpati")),
    ("mail_owner", "postfix", Nothing("the service manager says as whom Merpati runs")),
    ("mail_spool_directory", "/var/mail", Nothing("there are no mailboxes on this machine")),
    ("mail_version", "3.7.0", Nothing(INSIDE)),
    ("mailbox_command", "", Nothing("there are no mailboxes on this machine")),
    ("mailbox_size_limit", "51200000", Nothing("there are no mailboxes on this machine")),
    ("mailq_path", "/usr/bin/mailq", Nothing(INSIDE)),
    ("maillog_file", "", Nothing("see log.to")),
    ("manpage_directory", "/usr/share/man", Nothing(INSIDE)),
    ("meta_directory", "/etc/postfix", Nothing(INSIDE)),
    ("message_drop_headers", "bcc, content-length, resent-bcc, return-path", Left(HEADERS)),
    ("multi_instance_enable", "no", Nothing(INSIDE)),
    ("newaliases_path", "/usr/bin/newaliases", Nothing(INSIDE)),
    ("queue_minfree", "0", Left("see spool.disk_free_min")),
    ("queue_run_delay", "300s", Nothing("what is due is tried at once")),
    ("readme_directory", "no", Nothing(INSIDE)),
    ("sample_directory", "", Nothing(INSIDE)),
    ("sendmail_path", "/usr/sbin/sendmail", Nothing(INSIDE)),
    ("setgid_group", "postdrop", Nothing(INSIDE)),
    ("shlib_directory", "no", Nothing(INSIDE)),
    ("smtp_dns_support_level", "", Left("names of next hops are looked up by [dns]")),
    ("smtp_host_lookup", "dns", Left("names of next hops are looked up by [dns]")),
    ("smtp_sasl_mechanism_filter", "", Nothing("the best that both know is taken")),
    ("smtp_sasl_security_options", "noplaintext, noanonymous", Nothing(PASSWORDS)),
    ("smtp_sasl_tls_security_options", "noplaintext, noanonymous", Nothing(PASSWORDS)),
    ("smtp_sasl_type", "cyrus", Nothing(INSIDE)),
    ("smtp_tls_CApath", "", Nothing("the issuers of the system are known; see route.tls_ca")),
    ("smtp_tls_loglevel", "0", Nothing("each attempt is logged with its TLS")),
    ("smtp_tls_note_starttls_offer", "no", Nothing("each attempt is logged with its TLS")),
    ("smtp_tls_session_cache_database", "", Nothing("sessions are resumed")),
    ("smtpd_client_auth_rate_limit", "0", Left("see [auth]: failures lock out")),
    ("smtpd_client_event_limit_exceptions", "$mynetworks", Nothing("relay.networks have no rates")),
    ("smtpd_delay_reject", "yes", Nothing("refusals come at MAIL and RCPT")),
    ("smtpd_error_sleep_time", "1s", Nothing("see listener.bad_commands_max")),
    ("smtpd_forbid_bare_newline", "no", Nothing("a bare LF never ends the data")),
    ("smtpd_forbid_unauth_pipelining", "no", Nothing("see listener.pipelining")),
    ("smtpd_helo_required", "no", Nothing("mail without EHLO or HELO is refused in any case")),
    ("smtpd_junk_command_limit", "${stress?{1}:{100}}", Nothing("see listener.bad_commands_max")),
    ("smtpd_sasl_authenticated_header", "no", Left("Received does not name who authenticated")),
    ("smtpd_sasl_local_domain", "", Nothing("a credential is named by the whole user name")),
    ("smtpd_sasl_security_options", "noanonymous", Nothing("nobody is anonymous")),
    ("smtpd_sasl_tls_security_options", "noanonymous", Nothing("nobody is anonymous")),
    ("smtpd_soft_error_limit", "10", Nothing("see listener.bad_commands_max")),
    ("smtpd_tls_loglevel", "0", Nothing("each session is logged with its TLS")),
    ("smtpd_tls_received_header", "no", Nothing("Received always tells of TLS (RFC 3848)")),
    ("smtpd_tls_session_cache_database", "", Nothing("sessions are resumed")),
    ("smtputf8_enable", "yes", Nothing("SMTPUTF8 is always offered")),
    ("soft_bounce", "no", Loud("permanent failures are not made temporary")),
    ("syslog_facility", "mail", Nothing("see log.to")),
    ("syslog_name", "postfix", Nothing("each listener has a name in the log")),
    ("tls_random_source", "dev:/dev/urandom", Nothing(INSIDE)),
    ("unknown_local_recipient_reject_code", "550", Nothing(CODES)),
    ("virtual_maps", "", Nothing("an old name of virtual_alias_maps")),
];

/// Names with a common end.
const ENDS: &[(&str, Otherwise)] = &[
    ("_delivery_slot_cost", Nothing(INSIDE)),
    ("_delivery_slot_discount", Nothing(INSIDE)),
    ("_delivery_slot_loan", Nothing(INSIDE)),
    ("_destination_concurrency_failed_cohort_limit", Nothing(PACE)),
    ("_destination_concurrency_limit", Here),
    ("_destination_concurrency_negative_feedback", Nothing(PACE)),
    ("_destination_concurrency_positive_feedback", Nothing(PACE)),
    ("_destination_rate_delay", Left("mail to a next hop is not spaced out; see connections_max")),
    ("_destination_recipient_limit", Left("there is one limit, delivery.recipients_max")),
    ("_extra_recipient_limit", Nothing(INSIDE)),
    ("_initial_destination_concurrency", Nothing(PACE)),
    ("_minimum_delivery_slots", Nothing(INSIDE)),
    ("_recipient_refill_delay", Nothing(INSIDE)),
    ("_recipient_refill_limit", Nothing(INSIDE)),
    ("_reject_code", Nothing(CODES)),
    ("_service_name", Nothing(INSIDE)),
    ("_time_limit", Nothing(INSIDE)),
    ("_transport_rate_delay", Left("mail is not spaced out")),
];

/// Names with a common beginning.
const STARTS: &[(&str, Otherwise)] = &[
    ("address_verify_", Nothing("[recipients] has options of its own")),
    ("anvil_", Nothing(INSIDE)),
    ("backwards_", Nothing(INSIDE)),
    ("berkeley_", Nothing(INSIDE)),
    ("canonical_", Nothing(NO_REWRITING)),
    ("cleanup_", Nothing(INSIDE)),
    ("command_", Nothing(INSIDE)),
    ("confirm_delay_", Left("a sender is not told that a delay is over")),
    ("connection_cache_", Nothing(INSIDE)),
    ("daemon_", Nothing(INSIDE)),
    ("debug", Nothing(INSIDE)),
    ("deliver_lock_", Nothing("there are no mailboxes on this machine")),
    ("dns", Nothing("see [dns]")),
    ("empty_address_", Nothing("nothing is looked up for the null sender")),
    ("fast_flush_", Nothing("ETRN is not there")),
    ("fork_", Nothing(INSIDE)),
    ("hash_queue_", Nothing(INSIDE)),
    ("ipc_", Nothing(INSIDE)),
    ("ldap", Nothing("a source of tables, reported where it is used")),
    ("lmtp_", Left("deliveries by LMTP have the options of [delivery]")),
    ("local_", Nothing("there are no mailboxes on this machine")),
    ("mailbox_", Nothing("there are no mailboxes on this machine")),
    ("maillog_", Nothing("see log.to")),
    ("masquerade_", Nothing(NO_REWRITING)),
    ("master_", Nothing(INSIDE)),
    ("max_", Nothing(INSIDE)),
    ("milter_", Nothing("there are no milters")),
    ("mime_", Nothing("contents are not searched")),
    ("multi_instance_", Nothing("each Merpati has a configuration and a data directory")),
    ("mysql", Nothing("a source of tables, reported where it is used")),
    ("pgsql", Nothing("a source of tables, reported where it is used")),
    ("policy_", Nothing("there are no policy services")),
    ("postlog", Nothing("see log.to")),
    ("postmulti_", Nothing(INSIDE)),
    ("postscreen_", Loud(POSTSCREEN)),
    ("process_", Nothing(INSIDE)),
    ("proxy_", Nothing(INSIDE)),
    ("qmgr_", Nothing(INSIDE)),
    ("qmqpd_", Nothing("QMQP is not there")),
    ("queue_", Nothing(INSIDE)),
    ("recipient_canonical_", Nothing(NO_REWRITING)),
    ("resolve_", Nothing(INSIDE)),
    ("sender_canonical_", Nothing(NO_REWRITING)),
    ("smtp_", Left("deliveries have the options of [delivery]")),
    ("smtp_sasl_", Left("credentials of next hops are `user` and `password` of a [[route]]")),
    ("smtp_tls_", Left(TLS_OF_ROUTES)),
    ("smtpd_", Left("sessions have the options of [[listener]]")),
    ("smtpd_policy_", Nothing("there are no policy services")),
    ("smtpd_proxy_", Nothing("there is no filter in front of the queue")),
    ("smtpd_sasl_", Left("AUTH has the options of [[listener]], [auth] and [[credential]]")),
    ("smtpd_tls_", Left("TLS has the options of [[listener]]; versions and ciphers are fixed")),
    ("strict_", Left("what is refused of contents is in docs/messages.md")),
    ("submission_", Nothing(INSIDE)),
    ("tls_", Left("versions and ciphers of TLS are fixed")),
    ("tlsproxy_", Nothing(INSIDE)),
    ("transport_", Nothing(INSIDE)),
    ("trigger_", Nothing(INSIDE)),
    ("unknown_", Nothing(CODES)),
    ("unverified_", Nothing(CODES)),
    ("verp_", Left("addresses are not made for each recipient")),
    ("virtual_", Nothing("there are no mailboxes on this machine")),
];

const INSIDE: &str = "it is about the inside of Postfix";
const PACE: &str = "attempts to hosts in trouble slow down by themselves";
const CODES: &str = "reply codes are those of docs/strangers.md";
const PASSWORDS: &str = "a password is said under TLS only, unless route.auth_clear is true";
const SHORT: &str = "addresses without a full domain are not completed but refused";
const SHORT_LOST: &str = "addresses without a domain are not completed but refused: programs on \
                          this machine must write whole addresses";
const EXTENSIONS: &str = "there are no aliases with extensions";
const NO_REWRITING: &str = "addresses are not rewritten";
const REWRITTEN: &str = "addresses are not rewritten: let the program that sends, or the next hop, \
                         do it";
const COPIES: &str = "no copies are made: let the next hop make them";
const CONTENT: &str = "contents are not searched: let the next hop do it";
const FILTERED: &str = "there is no content filter: put the filter in front of Merpati or behind \
                        it, as the next hop of a route";
const MILTERS: &str = "there are no milters: nothing is signed or checked by them; let the next \
                       hop do it";
const FALLBACK: &str = "write a list in `to` of the route: the first host that answers takes the \
                        mail";
const BY_SENDER: &str = "write routes with sender_below";
const NOTICES: &str = "nobody is told of trouble by mail: see the log, the metrics and \
                       delivery.postmaster";
const BOUNCES: &str = "reports of ours are given up at the age of other mail, \
                       retry.give_up_after";
const CLIENT_CERTIFICATES: &str = "certificates of clients permit nothing by themselves: see \
                                   listener.tls_client_ca and credential.certificate_names";
const SHOWN: &str = "next hops are shown what tls_certificate and tls_key of a route name";
const ONE_CERTIFICATE: &str = "a listener has one certificate: that of smtpd_tls_cert_file";
const TLS_OF_ROUTES: &str = "TLS to next hops has the options of [[route]] alone";
const MATCHES: &str = "a certificate must always be valid for the name of the host";
const MENDED: &str = "what is missing in a header is added on listeners of kind submission alone";
const HEADERS: &str = "header fields are removed on listeners of kind submission alone";
const KEYWORDS: &str = "extensions have options of their own: see deliver_by_min, \
                        future_release_max, mt_priority and requiretls of a listener";
const POSTSCREEN: &str = "postscreen is not there: see listener.greeting_wait, \
                          connections_per_minute_max and [[list]]";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_parameter_is_known_once() {
        let mut seen = BTreeSet::new();
        for (name, _, _) in [HERE, LOST, NOTHING].into_iter().flatten() {
            assert!(seen.insert(*name), "{name} is there twice");
        }
    }

    #[test]
    fn a_parameter_is_found_by_its_name_its_end_or_its_beginning() {
        for (name, want) in [
            ("relayhost", Some(Here)),
            ("slow_destination_concurrency_limit", Some(Here)),
            ("unknown_client_reject_code", Some(Nothing(CODES))),
            ("smtp_tls_protocols", Some(Left(TLS_OF_ROUTES))),
            ("smtp_line_length_limit", Some(Left("deliveries have the options of [delivery]"))),
            ("qmgr_message_active_limit", Some(Nothing(INSIDE))),
            ("mua_client_restrictions", None),
        ] {
            assert_eq!(otherwise(name), want, "{name}");
        }
        assert_eq!(default_of("maximal_queue_lifetime"), "5d");
    }
}
