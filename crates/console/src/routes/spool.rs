//! The spool as a whole over HTTP.
//!
//! Invariant: what writes into a directory of the machine can be asked for at the control socket
//! only, where the permissions of its file decide who asks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Json, Router, extract::State, http::Uri, routing::post};

use super::{Parameters, Reply, wrong};
use crate::{
    Admin, Guard,
    json::spool as json,
    problem::{Code, Problem},
};

/// These routes, for who comes through this guard.
pub(super) fn routes<A: Admin>(guarded_by: &Guard) -> Router<Arc<A>> {
    match guarded_by {
        Guard::Network { .. } => Router::new().route("/v1/spool/backup", post(elsewhere)),
        Guard::Socket => Router::new().route("/v1/spool/backup", post(back_up::<A>)),
    }
}

async fn elsewhere() -> Problem {
    Problem::new(Code::NoSuchRoute, "a backup can be asked for at the control socket only")
        .advise("Run `merpati spool backup` on the machine of the relay.")
}

async fn back_up<A: Admin>(State(admin): State<Arc<A>>, uri: Uri) -> Reply<Json<json::Backup>> {
    let parameters = Parameters::of(&uri, &["directory"])?;
    let directory = parameters.value("directory").ok_or_else(|| {
        Problem::new(Code::BadParameter, "`directory` is missing: where shall the copy go?")
    })?;
    if !Path::new(directory).is_absolute() {
        return Err(wrong("directory", directory, &"a path from the root is wanted"));
    }
    let done = admin.back_up(PathBuf::from(directory)).await?;
    Ok(Json(json::Backup::from(&done)))
}
