//! The queue and the routes over HTTP.
//!
//! Invariant: a verb needs its `query` spelled out, and the empty one means everything: what a
//! program forgets never concerns the whole queue.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use merpati_mail::{DeliveryId, Domain, ForwardPath, Hold, Mailbox, QueueId, ReversePath};

use super::{Parameters, Reply, meant, wrong};
use crate::{
    Admin, Guard, Selection,
    explain::{AcceptQuestion, RouteQuestion},
    json::{queue as json, tls::TlsExplained},
    near::nearest,
    problem::{Code, Problem},
    queue::{Grouping, Mode, Operated, QueuePage, Verb},
};

/// These routes.
pub(super) fn routes<A: Admin>(guarded_by: &Guard) -> Router<Arc<A>> {
    let routes = match guarded_by {
        Guard::Network { .. } => Router::new(),
        // The words of mail are for who may read the spool.
        Guard::Socket => Router::new().route("/v1/queue/{id}/raw", get(raw::<A>)),
    };
    routes
        .route("/v1/explain/accept", get(explain_accept::<A>))
        .route("/v1/explain/route", get(explain_route::<A>))
        .route("/v1/explain/tls", get(explain_tls::<A>))
        .route("/v1/queue", get(list::<A>))
        .route("/v1/queue/cancel", post(cancel::<A>))
        .route("/v1/queue/hold", post(hold::<A>))
        .route("/v1/queue/release", post(release::<A>))
        .route("/v1/queue/reroute", post(reroute::<A>))
        .route("/v1/queue/retry", post(retry::<A>))
        .route("/v1/queue/shape", get(shape::<A>))
        .route("/v1/queue/{id}", get(show::<A>))
}

async fn list<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::List>> {
    let parameters = Parameters::of(&uri, &["query", "limit", "after"])?;
    let page = QueuePage {
        after: parameters.parsed("after", delivery)?,
        limit: usize::try_from(parameters.number("limit", 100, 1..=1_000)?).unwrap_or(100),
    };
    let selection = Selection::parse(parameters.value("query").unwrap_or_default())?;
    let listing = admin.queue(&selection, page).await?;
    Ok(Json(json::List::of(&listing, admin.now())))
}

async fn shape<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Shape>> {
    let parameters = Parameters::of(&uri, &["query", "by", "after"])?;
    let selection = Selection::parse(parameters.value("query").unwrap_or_default())?;
    let word = parameters.value("by").unwrap_or(Grouping::NextHop.word());
    let by = Grouping::ALL.into_iter().find(|by| by.word() == word).ok_or_else(|| {
        let words = Grouping::ALL.map(Grouping::word);
        let problem = wrong("by", word, &format!("one of {} is wanted", words.join(", ")));
        meant(problem, nearest(word, words))
    })?;
    let shape = admin.shape(&selection, by, parameters.cursor("after")?).await?;
    Ok(Json(json::Shape::of(&shape)))
}

async fn show<A: Admin>(
    State(admin): State<Arc<A>>,
    Path(id): Path<String>,
) -> Reply<Json<json::Message>> {
    // What cannot be an id is the name of no message.
    let parsed: QueueId = id
        .parse()
        .map_err(|why: merpati_mail::IdError| not_queued(&id).advise(format!("Mind: {why}.")))?;
    let message = admin.queued(parsed).await?.ok_or_else(|| not_queued(&id))?;
    Ok(Json(json::Message::of(&message, admin.now())))
}

async fn raw<A: Admin>(State(admin): State<Arc<A>>, Path(id): Path<String>) -> Reply<Response> {
    let parsed: QueueId = id
        .parse()
        .map_err(|why: merpati_mail::IdError| not_queued(&id).advise(format!("Mind: {why}.")))?;
    let content = admin.queued_content(parsed).await?.ok_or_else(|| not_queued(&id))?;
    Ok(([(header::CONTENT_TYPE, "message/rfc822")], content).into_response())
}

async fn cancel<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Done>> {
    let parameters = Parameters::of(&uri, &VERB_PARAMETERS)?;
    operate(&*admin, &parameters, Verb::Cancel).await
}

async fn hold<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Done>> {
    let parameters = Parameters::of(&uri, &["query", "after", "dry_run", "why"])?;
    let why = parameters.value("why").map(str::trim).unwrap_or_default();
    if why.len() > WHY_OCTETS_MAX || why.chars().any(char::is_control) {
        let rule = format!("one line of at most {WHY_OCTETS_MAX} octets is wanted");
        return Err(wrong("why", why, &rule));
    }
    let verb = Verb::Hold(Hold {
        limit: "operator".to_owned(),
        value: if why.is_empty() { "no reason given" } else { why }.to_owned(),
        source: "control plane".to_owned(),
        until: None,
    });
    operate(&*admin, &parameters, verb).await
}

async fn release<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Done>> {
    let parameters = Parameters::of(&uri, &VERB_PARAMETERS)?;
    operate(&*admin, &parameters, Verb::Release).await
}

async fn reroute<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Done>> {
    let parameters = Parameters::of(&uri, &["query", "after", "dry_run", "route"])?;
    let route = parameters.value("route").ok_or_else(|| {
        Problem::new(Code::BadParameter, "`route` is missing: which way?")
            .advise("Write route=NAME; an empty `route=` leads them by the rules again.")
    })?;
    let route = (!route.is_empty()).then(|| route.to_owned());
    operate(&*admin, &parameters, Verb::Reroute(route)).await
}

async fn retry<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Done>> {
    let parameters = Parameters::of(&uri, &VERB_PARAMETERS)?;
    operate(&*admin, &parameters, Verb::Retry).await
}

async fn operate<A: Admin>(
    admin: &A,
    parameters: &Parameters,
    verb: Verb,
) -> Reply<Json<json::Done>> {
    let query = parameters.value("query").ok_or_else(|| {
        Problem::new(Code::BadParameter, "`query` is missing: which deliveries?")
            .advise("Write query=id:… or another selection; an empty `query=` means all.")
    })?;
    let selection = Selection::parse(query)?;
    let mode = match parameters.value("dry_run") {
        None | Some("false") => Mode::Real,
        Some("true") => Mode::DryRun,
        Some(other) => return Err(wrong("dry_run", other, &"`true` or `false` is wanted")),
    };
    let after = parameters.cursor("after")?;
    let done = admin.operate(&selection, &verb, after, mode).await?;
    // What is named and not there is a mistake of who asks; what is selected and empty is not.
    match done.missing.first() {
        Some(missing) if after.is_none() && is_nothing(&done) => {
            Err(not_queued(&missing.to_string()))
        }
        _ => Ok(Json(json::Done::of(&verb, mode, &done))),
    }
}

const fn is_nothing(done: &Operated) -> bool {
    done.deliveries == 0 && done.passed_over == 0 && done.next.is_none()
}

async fn explain_route<A: Admin>(
    State(admin): State<Arc<A>>,
    uri: Uri,
) -> Reply<Json<json::Explained>> {
    let parameters = Parameters::of(&uri, &["address", "from", "credential"])?;
    let recipient = recipient(&parameters, "address")?;
    let reverse_path = reverse_path(&parameters)?;
    let credential = parameters.value("credential").filter(|name| !name.is_empty());
    let question =
        RouteQuestion { recipient, reverse_path, credential: credential.map(str::to_owned) };
    let answer = admin.explain_route(&question).await?;
    Ok(Json(json::Explained::of(&question, &answer)))
}

async fn explain_tls<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<TlsExplained>> {
    let parameters = Parameters::of(&uri, &["domain"])?;
    let domain = parameters.parsed("domain", Domain::parse)?.ok_or_else(|| {
        Problem::new(Code::BadParameter, "`domain` is missing: mail to whom?")
            .advise("Write domain= and a domain, such as example.org.")
    })?;
    Ok(Json(TlsExplained::of(&admin.explain_tls(&domain).await?)))
}

async fn explain_accept<A: Admin>(
    State(admin): State<Arc<A>>,
    uri: Uri,
) -> Reply<Json<json::WouldAccept>> {
    let parameters = Parameters::of(&uri, &["ip", "from", "rcpt", "listener", "credential"])?;
    let client = parameters.parsed("ip", str::parse)?.ok_or_else(|| {
        Problem::new(Code::BadParameter, "`ip` is missing: which client?")
            .advise("Write ip= and the address from which the mail would come.")
    })?;
    let named = |name: &str| parameters.value(name).filter(|it| !it.is_empty()).map(str::to_owned);
    let question = AcceptQuestion {
        client,
        listener: named("listener"),
        credential: named("credential"),
        reverse_path: reverse_path(&parameters)?,
        recipient: recipient(&parameters, "rcpt")?,
    };
    let answer = admin.explain_accept(&question).await?;
    Ok(Json(json::WouldAccept::of(&answer)))
}

fn recipient(parameters: &Parameters, name: &str) -> Reply<ForwardPath> {
    let address = parameters.value(name).unwrap_or_default();
    if address.eq_ignore_ascii_case("postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    Ok(ForwardPath::Mailbox(mailbox(name, address)?))
}

fn reverse_path(parameters: &Parameters) -> Reply<ReversePath> {
    Ok(match parameters.value("from").unwrap_or_default() {
        "" | "<>" => ReversePath(None),
        from => ReversePath(Some(mailbox("from", from)?)),
    })
}

fn mailbox(name: &str, text: &str) -> Reply<Mailbox> {
    Mailbox::parse(text.trim_start_matches('<').trim_end_matches('>'))
        .map_err(|why| wrong(name, text, &why).advise("Write an address, such as ani@example.org."))
}

/// The id of a delivery: of its message, a dot, and the number of its recipient.
fn delivery(text: &str) -> Result<DeliveryId, String> {
    let (message, recipient) =
        text.split_once('.').ok_or("the number of a recipient is missing")?;
    let message = message.parse().map_err(|why: merpati_mail::IdError| why.to_string())?;
    let recipient = recipient.parse().map_err(|_| "the number of a recipient is wrong")?;
    Ok(DeliveryId { message, recipient })
}

fn not_queued(id: &str) -> Problem {
    let id: String = id.chars().take(40).collect();
    Problem::new(Code::NoSuchMessage, format!("no message in the queue is called `{id}`"))
        .advise("It may be delivered, failed or cancelled by now; the mail log tells.")
}

const VERB_PARAMETERS: [&str; 3] = ["query", "after", "dry_run"];

/// Octets of the reason of a hold, which stays in memory and in the journal with each delivery.
const WHY_OCTETS_MAX: usize = 200;
