//! Who is connected, and what is said, over HTTP.
//!
//! Invariant: both are for the control socket alone: who talks with us, and what is said, is
//! nothing for whoever reaches a port.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{StreamExt, future::ready};

use super::{Parameters, Reply, wrong};
use crate::{
    Admin, Guard,
    json::sessions as json,
    sessions::{Direction, TapLine},
};

/// These routes, as far as this guard lets through.
pub(super) fn routes<A: Admin>(guarded_by: &Guard) -> Router<Arc<A>> {
    match guarded_by {
        Guard::Network { .. } => Router::new(),
        Guard::Socket => {
            Router::new().route("/v1/sessions", get(list::<A>)).route("/v1/tap", get(tap::<A>))
        }
    }
}

async fn list<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::List>> {
    Parameters::of(&uri, &[])?;
    Ok(Json(json::List::of(&admin.sessions())))
}

async fn tap<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Response> {
    let parameters = Parameters::of(&uri, &["direction", "ip", "host"])?;
    let direction = match parameters.value("direction") {
        None | Some("") => None,
        Some("in") => Some(Direction::In),
        Some("out") => Some(Direction::Out),
        Some(other) => return Err(wrong("direction", other, &"`in` or `out` is wanted")),
    };
    let ip: Option<IpAddr> = parameters.parsed("ip", str::parse)?;
    let host = parameters.value("host").map(str::to_lowercase).filter(|host| !host.is_empty());
    let wanted = move |line: &TapLine| {
        direction.is_none_or(|direction| line.direction == direction)
            && ip.is_none_or(|ip| line.peer.is_some_and(|peer| peer.ip() == ip))
            && host.as_ref().is_none_or(|host| line.host.to_lowercase().contains(host.as_str()))
    };
    let lines = admin.tap().filter(move |line| ready(wanted(line)));
    let body = Body::from_stream(lines.map(|line| Ok::<_, Infallible>(json::said(&line))));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}
