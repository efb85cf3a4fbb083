//! Signing in and out. A name that does not exist costs as much time as a wrong password, and says the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use maud::html;
use tokio::time::timeout;

use super::act::{Fields, Sent, see};
use super::guard::set_cookie;
use super::layout;
use super::problem::Problem;
use super::secrets;
use super::site::Site;
use super::visit::{SESSION, Visit};

/// How long somebody waits for the passwords of others to be looked at.
const QUEUE: Duration = Duration::from_secs(5);

/// Characters of a password at most: more only cost time.
const LONGEST: usize = 512;

/// Compared with where there is no such user: a hash like any other, of a password that nobody has.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIGR1bHk$1hm+eH4u6mV6yVTcAnL/RVa9Dq2MsTsbpQ0fnuDRkHw";

pub(super) async fn show(State(site): State<Arc<Site>>, visit: Visit) -> Response {
    if visit.role.is_some() {
        return see("/");
    }
    page(&site, &visit, None).into_response()
}

fn page(site: &Site, visit: &Visit, trouble: Option<&str>) -> Html<String> {
    let (config, _) = site.config();
    let body = html! {
        section.card.sign-in {
            h1 { "Sign in" }
            @if let Some(trouble) = trouble { p.banner.bad role="alert" { (trouble) } }
            @if config.web.users.is_empty() {
                p { "This page is reached through a proxy that signs people in, and the proxy has named nobody." }
            } @else {
                form method="post" action="/sign-in" {
                    input type="hidden" name="token" value=(visit.token);
                    label for="name" { "Name" }
                    input id="name" name="name" type="text" autocomplete="username" autocapitalize="none" maxlength="100" required autofocus;
                    label for="password" { "Password" }
                    input id="password" name="password" type="password" autocomplete="current-password" maxlength=(LONGEST) required;
                    button.primary type="submit" { "Sign in" }
                }
            }
        }
    };
    layout::bare("Sign in", &body)
}

pub(super) async fn sign_in(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let (name, password) = (fields.get("name").unwrap_or(""), fields.as_typed("password").unwrap_or(""));
    let address = visit.address.to_string();
    if let Some(wait) = site.throttle.wait(&address, name, Instant::now()) {
        return Ok(too_many(&site, &visit, wait));
    }
    let (config, _) = site.config();
    let user = config.web.users.iter().find(|user| user.name == name);
    let hash = user.map_or(NOBODY, |user| user.password_hash.as_str()).to_owned();
    let Ok(Ok(turn)) = timeout(QUEUE, site.verifying.acquire()).await else {
        return Ok(too_many(&site, &visit, QUEUE));
    };
    let given: String = password.chars().take(LONGEST + 1).collect();
    let looked_at = hash.clone();
    let is_right = tokio::task::spawn_blocking(move || secrets::is_password(&given, &looked_at)).await;
    drop(turn);
    let (Some(user), true) = (user, is_right.unwrap_or(false)) else {
        site.throttle.failed(&address, name, Instant::now());
        log::warn!("a sign-in as `{}` from {address} was refused", crate::job::harmless(name));
        let page = page(&site, &visit, Some("There is no such name with this password."));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    site.throttle.succeeded(&address, name);
    // What the browser had before, perhaps from somebody else, is worth nothing from here on.
    site.sessions.end(&visit.session);
    let id = site
        .sessions
        .begin(&user.name, &user.password_hash)
        .map_err(|err| Problem::broken(&err.to_string()))?;
    let mut response = see("/");
    set_cookie(&mut response, SESSION, &id, None, visit.is_secure);
    Ok(response)
}

fn too_many(site: &Site, visit: &Visit, wait: Duration) -> Response {
    let seconds = wait.as_secs().max(1);
    let text = format!("Too many tries; wait for {seconds} s.");
    let mut response = (StatusCode::TOO_MANY_REQUESTS, page(site, visit, Some(&text))).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

pub(super) async fn sign_out(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    Fields::of(&site, &visit, sent)?;
    site.sessions.end(&visit.session);
    let mut response = see("/sign-in");
    set_cookie(&mut response, SESSION, "", Some(0), visit.is_secure);
    Ok(response)
}
