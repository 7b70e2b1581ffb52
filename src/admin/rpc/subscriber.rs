//! `subscriber.*`: the accounts that users prove themselves by.

use std::sync::Arc;

use serde_json::{Value, json};

use super::params::Params;
use super::usrloc::registry;
use super::{Fault, INTERNAL_ERROR, INVALID_PARAMS, UNAVAILABLE};
use crate::admin::{AccountOrder, State};

/// `subscriber.add`: a new account.
pub(super) async fn add(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let (user, domain) = name(params)?;
    let password = params.required("password")?.into_owned();
    order(
        state,
        params,
        AccountOrder::Add {
            user,
            domain,
            password,
        },
    )
    .await
}

/// `subscriber.passwd`: another password.
pub(super) async fn change(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let (user, domain) = name(params)?;
    let password = params.required("password")?.into_owned();
    order(
        state,
        params,
        AccountOrder::Change {
            user,
            domain,
            password,
        },
    )
    .await
}

/// `subscriber.rm`: an account less.
pub(super) async fn remove(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let (user, domain) = name(params)?;
    order(state, params, AccountOrder::Remove { user, domain }).await
}

/// Carries it out, beside the server's own thread, and has the workers forget what they knew of the user.
async fn order(state: &State, params: &Params<'_>, order: AccountOrder) -> Result<Value, Fault> {
    let absent = || Fault::new(UNAVAILABLE, "there is no store to keep accounts in");
    let accounts = Arc::clone(state.accounts.as_ref().ok_or_else(absent)?);
    let done = tokio::task::spawn_blocking(move || accounts(&order)).await;
    match done {
        Ok(Ok(())) => {}
        Ok(Err(text)) => return Err(Fault::new(INTERNAL_ERROR, &text)),
        Err(_) => return Err(Fault::new(INTERNAL_ERROR, "the account was not changed")),
    }
    let registry = registry(state)?;
    let (user, domain) = name(params)?;
    let names = [user.clone(), format!("{user}@{domain}")];
    let forget = move |_, location: &crate::location::Location| {
        for name in names {
            location.users().forget(name.as_bytes());
        }
    };
    registry.errands.run(forget).await?;
    Ok(json!({ "user": user, "domain": domain }))
}

/// The user and the domain.
fn name(params: &Params<'_>) -> Result<(String, String), Fault> {
    let name = params.required("user")?;
    match name.rsplit_once('@') {
        Some((user, domain)) if !user.is_empty() && !domain.is_empty() => {
            Ok((user.to_owned(), domain.to_ascii_lowercase()))
        }
        Some(_) | None => Err(Fault::new(INVALID_PARAMS, "user: write USER@DOMAIN")),
    }
}
