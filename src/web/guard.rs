//! What every request goes through, whatever page it is for: the host's name, who it is, where a form comes from, how
//! long it may take, and what the browser is told to do and not to do with the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::act::see;
use super::problem::Problem;
use super::site::Site;
use super::visit::{SAID, SESSION, Visit};

/// How long a request may take in all: its body, the database, the page.
const LONGEST: Duration = Duration::from_secs(20);

/// Bytes of a form at most.
pub(super) const FORM: usize = 64 * 1024;

/// Nothing but what this very server sends; no scripts and styles within pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Sent with every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The page that somebody who is not known is shown, and what it needs.
fn is_for_all(path: &str) -> bool {
    path == "/sign-in" || path.starts_with("/assets/")
}

pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(LONGEST, look(&site, request, next)).await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_too_long) => Problem::new(StatusCode::REQUEST_TIMEOUT, "Too slow", "The request took too long.")
            .into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn look(site: &Arc<Site>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let (config, _) = site.config();
    require_own_host(&config.web.hosts, request.uri(), request.headers())?;
    let peer = request.extensions().get::<SocketAddr>().copied();
    let peer = peer.ok_or_else(|| Problem::broken("a request without an address"))?;
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    if is_change {
        require_own_origin(request.headers())?;
        let length = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > FORM as u64) {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Too large",
                "The form is too large; nothing was changed.",
            ));
        }
    }
    let visit = Visit::of(site, &config, peer, request.uri(), request.headers())?;
    let path = request.uri().path();
    if visit.role.is_none() && !is_for_all(path) {
        if is_change {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "Not signed in", "Sign in, and try again."));
        }
        return Ok(with_cookies(see("/sign-in"), &visit, false));
    }
    if is_change && !visit.may_change() && !["/sign-in", "/sign-out"].contains(&path) {
        return Err(Problem::forbidden(
            "You may look and not change anything: that takes the role `operator`.",
        ));
    }
    let was_said = visit.said.is_some() && !is_change && !path.starts_with("/assets/");
    request.extensions_mut().insert(visit.clone());
    Ok(with_cookies(next.run(request).await, &visit, was_said))
}

/// Gives a new browser its cookie, unless the page has set one itself, and takes back what has been said.
fn with_cookies(mut response: Response, visit: &Visit, was_said: bool) -> Response {
    let sets = |response: &Response, name: &str| {
        let all = response.headers().get_all(header::SET_COOKIE);
        all.iter().any(|value| value.as_bytes().starts_with(name.as_bytes()))
    };
    if visit.is_new && !sets(&response, SESSION) {
        set_cookie(&mut response, SESSION, &visit.session, None, visit.is_secure);
    }
    if was_said && !sets(&response, SAID) {
        set_cookie(&mut response, SAID, "", Some(0), visit.is_secure);
    }
    response
}

/// Adds a cookie that no script can read and no other site's form brings along.
pub(super) fn set_cookie(
    response: &mut Response,
    name: &str,
    value: &str,
    seconds: Option<u32>,
    is_secure: bool,
) {
    let age = seconds.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{age}{secure}");
    // Hex digits and names of ours: it is a header's value.
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// A name that somebody else made lead here is not answered to: their page could read what is on this one.
fn require_own_host(hosts: &[String], uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let asked = uri.authority().map(|authority| authority.as_str());
    let asked = asked.or_else(|| headers.get(header::HOST)?.to_str().ok()).unwrap_or("");
    let name = match asked.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => asked.rsplit_once(':').map_or(asked, |(name, _)| name),
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    let name = name.to_ascii_lowercase();
    if is_address || name == "localhost" || hosts.contains(&name) {
        return Ok(());
    }
    let text = "This page does not answer to that host name; whoever runs it can add the name to web.hosts in jobs.yaml.";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "Another host", text))
}

/// A form comes from a page of this server, as far as the browser says.
fn require_own_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_own_site =
        text(HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    let host = text(header::HOST).unwrap_or("");
    let is_own_origin = text(header::ORIGIN).is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
    });
    if is_own_site && is_own_origin {
        return Ok(());
    }
    Err(Problem::forbidden("This form comes from another site; nothing was changed."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(host: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        require_own_host(&hosts, &Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn only_addresses_localhost_and_configured_names_are_answered_to() {
        for own in ["localhost:8080", "127.0.0.1:1", "[::1]:8080", "10.0.0.7", "LOCALHOST"] {
            assert!(answers(own, &[]), "{own}");
        }
        for other in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "", "[evil]:1"] {
            assert!(!answers(other, &["jobs.example.com"]), "{other}");
        }
        assert!(answers("Jobs.example.com:443", &["jobs.example.com"]));
        assert!(require_own_host(&[], &Uri::from_static("http://evil.example/"), &HeaderMap::new()).is_err());
    }
}
