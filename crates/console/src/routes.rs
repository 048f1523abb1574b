//! Which verb a request means.
//!
//! Invariant: a handler reads its parameters, calls one verb and writes its answer; it decides
//! nothing about mail. Every refusal is a [`Problem`].

mod queue;
mod sessions;
mod spool;
mod trace;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use merpati_mail::QueueId;

use crate::{
    Admin, Guard, Page, Query,
    exposition::{OPEN_METRICS, as_text_format},
    guard::guard,
    json,
    near::nearest,
    problem::{Code, Problem},
    quantity,
};

/// The whole API over these verbs, behind this guard.
pub fn router<A: Admin>(admin: Arc<A>, guarded_by: Guard) -> Router {
    let routes = match guarded_by {
        Guard::Network { .. } => Router::new(),
        Guard::Socket => Router::new().route("/v1/reload", post(reload::<A>)),
    };
    routes
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz::<A>))
        .route("/metrics", get(metrics::<A>))
        .route("/errors/{code}", get(explain))
        .route("/v1/drain", post(drain::<A>))
        .route("/v1/health", get(health::<A>))
        .route("/v1/status", get(status::<A>))
        .route("/v1/sandbox/messages", get(list::<A>).delete(clear::<A>))
        .route("/v1/sandbox/messages/wait", get(wait::<A>))
        .route("/v1/sandbox/messages/{id}", get(show::<A>).delete(forget::<A>))
        .route("/v1/sandbox/messages/{id}/raw", get(raw::<A>))
        .merge(queue::routes(&guarded_by))
        .merge(sessions::routes(&guarded_by))
        .merge(spool::routes(&guarded_by))
        .merge(trace::routes(&guarded_by))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_route)
        .layer(middleware::from_fn_with_state(Arc::new(guarded_by), guard))
        .with_state(admin)
}

type Reply<T> = Result<T, Problem>;

async fn readyz<A: Admin>(State(admin): State<Arc<A>>) -> Reply<&'static str> {
    admin.readiness()?;
    Ok("ready\n")
}

async fn metrics<A: Admin>(State(admin): State<Arc<A>>, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains(OPEN_METRICS)) {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], admin.metrics()).into_response();
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], as_text_format(&admin.metrics())).into_response()
}

async fn explain(Path(name): Path<String>) -> Reply<String> {
    let code = Code::ALL.into_iter().find(|code| code.name() == name);
    let code = code.ok_or_else(|| {
        let near = nearest(&name, Code::ALL.map(Code::name));
        meant(Problem::new(Code::NoSuchRoute, format!("`{name}` is not a code")), near)
    })?;
    Ok(format!("{}\n\n{}\n", code.title(), code.explanation()))
}

async fn drain<A: Admin>(State(admin): State<Arc<A>>) -> Response {
    admin.drain();
    (StatusCode::ACCEPTED, Json(json::State { state: "draining" })).into_response()
}

async fn reload<A: Admin>(State(admin): State<Arc<A>>) -> Reply<Json<json::Reloaded>> {
    Ok(Json(admin.reload().await?.into()))
}

async fn health<A: Admin>(State(admin): State<Arc<A>>) -> Json<json::health::Health> {
    Json(json::health::Health::of(&admin.health().await))
}

async fn status<A: Admin>(State(admin): State<Arc<A>>) -> Json<json::StatusFacts> {
    Json(json::StatusFacts::of(admin.status(), admin.now(), admin.readiness()))
}

async fn list<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::List>> {
    let parameters = Parameters::of(&uri, &["query", "limit", "after"])?;
    let page = Page {
        older_than: parameters.cursor("after")?,
        limit: usize::try_from(parameters.number("limit", 50, 1..=500)?).unwrap_or(50),
    };
    let listing = admin.list(&parameters.query()?, page).await?;
    Ok(Json(listing.into()))
}

async fn wait<A: Admin>(
    State(admin): State<Arc<A>>,
    uri: Uri,
) -> Reply<Json<json::MessageSummary>> {
    let parameters = Parameters::of(&uri, &["query", "timeout", "after"])?;
    let timeout = parameters.timeout()?;
    let after = parameters.cursor("after")?;
    let found = admin.wait(&parameters.query()?, after, timeout).await?;
    let message = found.ok_or_else(|| {
        let waited = quantity::show_duration(timeout);
        Problem::new(Code::WaitTimeout, format!("no such message came within {waited}"))
            .advise("Look at GET /v1/sandbox/messages without a query for what did come.")
    })?;
    Ok(Json((&message).into()))
}

async fn clear<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Deleted>> {
    let query = Parameters::of(&uri, &["query"])?.query()?;
    let deleted = admin.clear(&query).await?;
    Ok(Json(json::Deleted { deleted }))
}

async fn show<A: Admin>(
    State(admin): State<Arc<A>>,
    Path(id): Path<String>,
) -> Reply<Json<json::Message>> {
    let message = admin.message(queue_id(&id)?).await?.ok_or_else(|| no_such(&id))?;
    Ok(Json((&message).into()))
}

async fn raw<A: Admin>(State(admin): State<Arc<A>>, Path(id): Path<String>) -> Reply<Response> {
    let message = admin.message(queue_id(&id)?).await?.ok_or_else(|| no_such(&id))?;
    let name = format!("attachment; filename=\"{}.eml\"", message.id);
    let fields =
        [(header::CONTENT_TYPE, "message/rfc822"), (header::CONTENT_DISPOSITION, name.as_str())];
    Ok((fields, message.content).into_response())
}

async fn forget<A: Admin>(
    State(admin): State<Arc<A>>,
    Path(id): Path<String>,
) -> Reply<StatusCode> {
    let was_there = admin.forget(queue_id(&id)?).await?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(no_such(&id)) }
}

async fn unknown_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let problem = Problem::new(Code::NoSuchRoute, format!("there is nothing at `{path}`"));
    meant(problem, nearest(&path, PATHS))
}

async fn wrong_method(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(Code::MethodNotAllowed, format!("`{path}` does not know this method"))
}

/// The parameters of a request: known ones, each at most once.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(uri: &Uri, known: &[&str]) -> Reply<Self> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::new(Code::BadParameter, error.body_text()))?
            .0;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let problem =
                    Problem::new(Code::BadParameter, format!("`{name}` is not a parameter here"));
                return Err(meant(problem, nearest(name, known.iter().copied())));
            }
            if pairs.iter().take(at).any(|(other, _)| other == name) {
                let detail = format!("`{name}` is given twice");
                return Err(Problem::new(Code::BadParameter, detail));
            }
        }
        Ok(Self(pairs))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn query(&self) -> Reply<Query> {
        Ok(Query::parse(self.value("query").unwrap_or_default())?)
    }

    fn cursor(&self, name: &str) -> Reply<Option<QueueId>> {
        self.parsed(name, str::parse)
    }

    /// The value as `read` reads it; `None` where it is missing or empty.
    fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Reply<Option<T>> {
        let value = self.value(name).filter(|value| !value.is_empty());
        value.map(|value| read(value).map_err(|why| wrong(name, value, &why))).transpose()
    }

    fn number(&self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> Reply<u64> {
        let Some(value) = self.value(name) else { return Ok(default) };
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (low, high) = range.into_inner();
            wrong(name, value, &format!("a number from {low} to {high} is wanted"))
        })
    }

    /// Seconds, or a duration with its unit.
    fn timeout(&self) -> Reply<Duration> {
        let value = self.value("timeout").unwrap_or("30");
        let timeout = match value.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => quantity::duration(value).map_err(|why| wrong("timeout", value, &why))?,
        };
        if timeout > TIMEOUT_MAX {
            return Err(wrong("timeout", value, &"at most 300 seconds are allowed"));
        }
        Ok(timeout)
    }
}

fn queue_id(text: &str) -> Reply<QueueId> {
    // What cannot be an id is the name of no message.
    text.parse().map_err(|why: merpati_mail::IdError| no_such(text).advise(format!("Mind: {why}.")))
}

fn no_such(id: &str) -> Problem {
    let id: String = id.chars().take(40).collect();
    Problem::new(Code::NoSuchMessage, format!("no captured message is called `{id}`"))
}

fn wrong(name: &str, value: &str, why: &dyn std::fmt::Display) -> Problem {
    let value: String = value.chars().take(80).collect();
    Problem::new(Code::BadParameter, format!("`{name}={value}`: {why}"))
}

fn meant(problem: Problem, near: Option<&str>) -> Problem {
    match near {
        Some(near) => problem.advise(format!("Did you mean `{near}`?")),
        None => problem,
    }
}

/// The longest wait for a message; ask again for more.
pub const TIMEOUT_MAX: Duration = Duration::from_mins(5);

const PATHS: [&str; 23] = [
    "/healthz",
    "/metrics",
    "/readyz",
    "/v1/drain",
    "/v1/explain/accept",
    "/v1/explain/route",
    "/v1/explain/tls",
    "/v1/health",
    "/v1/queue",
    "/v1/queue/cancel",
    "/v1/queue/hold",
    "/v1/queue/release",
    "/v1/queue/reroute",
    "/v1/queue/retry",
    "/v1/queue/shape",
    "/v1/reload",
    "/v1/sandbox/messages",
    "/v1/sandbox/messages/wait",
    "/v1/sessions",
    "/v1/spool/backup",
    "/v1/status",
    "/v1/tap",
    "/v1/trace",
];
