//! What became of mail over HTTP.
//!
//! Invariant: what became of all mail is for the control socket alone; a trace says what it is
//! looked for, so that nothing looks through the whole history by a
//! forgotten parameter.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::Uri, routing::get};

use super::{Parameters, Reply};
use crate::{
    Admin, Guard,
    json::trace as json,
    problem::{Code, Problem},
    trace::TraceQuery,
};

/// These routes.
pub(super) fn routes<A: Admin>(guarded_by: &Guard) -> Router<Arc<A>> {
    match guarded_by {
        Guard::Network { .. } => Router::new(),
        Guard::Socket => Router::new().route("/v1/trace", get(trace::<A>)),
    }
}

async fn trace<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Found>> {
    let parameters = Parameters::of(&uri, &["query", "limit"])?;
    let query = TraceQuery::parse(parameters.value("query").unwrap_or_default())?;
    if query.is_empty() {
        let problem = Problem::new(Code::BadParameter, "`query` is missing: which mail?");
        return Err(problem.advise("Write query= and an id, an address, or a Message-ID."));
    }
    let limit = usize::try_from(parameters.number("limit", 20, 1..=500)?).unwrap_or(20);
    let traced = admin.trace(&query, limit).await?;
    Ok(Json(json::Found::of(&traced, admin.now())))
}
